"""Sealed JSON: objects that hold the SHA-256 of their content, so that a changed byte is refused rather than believed.

The field `sha256` is computed from the rest of the object as canonical JSON: keys sorted, ASCII, one space after commas
and colons. White space, the order of keys and the way of writing characters don't count. All that vclimb alone writes
as JSON and reads back is sealed; files that users write or edit are not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NoReturn

SEAL = "sha256"


def sealed(content: Mapping[str, Any]) -> dict[str, Any]:
    """Add the SHA-256 of its content to an object, as the last field."""
    return {**content, SEAL: _digest(content)}


def parse_object(data: bytes) -> dict[str, Any]:
    """Parse a JSON object; a ValueError says what else it is. NaN and infinity are no JSON."""
    try:
        document = json.loads(data.decode(), parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    except ValueError as error:
        raise ValueError(f"it is not JSON: {error}") from None
    if not isinstance(document, dict):
        raise ValueError("it is not a JSON object")
    return document


def unsealed(document: Mapping[str, Any]) -> dict[str, Any]:
    """Check the SHA-256 of a sealed object, and return its content; a ValueError if it is another or none."""
    content = {name: value for name, value in document.items() if name != SEAL}
    if SEAL not in document:
        raise ValueError(f"it has no field {SEAL}, the SHA-256 of its content")
    if document[SEAL] != _digest(content):
        raise ValueError("its content doesn't have the SHA-256 that it names")
    return content


def _digest(content: Mapping[str, Any]) -> str:
    try:
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    except RecursionError:
        raise ValueError("it is nested too deeply") from None


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no number")
