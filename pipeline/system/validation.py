"""The errors of pydantic in one sentence: the place, the value, and what is allowed."""

from __future__ import annotations

from pydantic import ValidationError

_SHOWN = 60


def first_problem(error: ValidationError) -> str:
    """Word the first error of a validation, with the place in the data, such as `shards.3.tar`."""
    first = error.errors(include_url=False)[0]
    place = ".".join(map(str, first["loc"]))
    message = " ".join(first["msg"].removeprefix("Value error, ").split())
    if first["type"] in ("missing", "value_error", "json_invalid"):
        value = ""
    else:
        shown = ascii(first["input"])
        value = f", not {shown if len(shown) <= _SHOWN else shown[:_SHOWN] + '...'}"
    return f"{place and place + ': '}{message[:1].lower()}{message[1:]}{value}"
