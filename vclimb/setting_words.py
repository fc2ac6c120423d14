"""Plain words for the types and ranges of settings, for errors."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

_SINGULAR = {int: "a whole number", float: "a number", str: "a text", bool: "true or false", Path: "a path"}
_PLURAL = {int: "whole numbers", float: "numbers", str: "texts", bool: "true or false", Path: "paths"}


def words_for_range(annotation: Any, metadata: list[Any]) -> str:
    """Word the limits of a number."""
    limits = dict(_limits(annotation, metadata))
    low, high = limits.get("ge"), limits.get("le")
    if low is not None and high is not None:
        return f"{_number(low)} to {_number(high)}"
    words = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}
    return " and ".join(f"{words[name]} {_number(limit)}" for name, limit in limits.items())


def _number(value: float) -> str:
    return f"{value:g}" if isinstance(value, float) and not math.isclose(value, round(value)) else str(round(value))


def _limits(annotation: Any, metadata: Iterable[Any]) -> Iterator[tuple[str, float]]:
    """Find the limits in a field's metadata, and in the types that its annotation is made of."""
    for constraint in metadata:
        for name in ("ge", "gt", "le", "lt"):
            if (limit := getattr(constraint, name, None)) is not None:
                yield name, limit
        yield from _limits(None, getattr(constraint, "metadata", ()))
    if get_origin(annotation) is Annotated:
        yield from _limits(annotation.__origin__, annotation.__metadata__)
    else:
        for part in get_args(annotation) if get_origin(annotation) is not Literal else ():
            yield from _limits(part, ())


def words_for_type(annotation: Any) -> list[str]:
    """Word what a type allows; empty where it has no plain words. None is what an absent setting has: not mentioned."""
    origin, parts = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return words_for_type(parts[0])
    if origin is Literal:
        return [", ".join(map(str, parts))]
    if origin in (Union, UnionType):
        return [word for part in parts if part is not type(None) for word in words_for_type(part)]
    if origin in (list, tuple):
        items = [part.__origin__ if get_origin(part) is Annotated else part for part in parts if part is not ...]
        plurals = {_PLURAL.get(item, "") for item in items}
        length = f"{len(items)} " if origin is tuple and ... not in parts else ""
        return [f"a list of {length}{plurals.pop()}".rstrip() if len(plurals) == 1 and "" not in plurals else "a list"]
    if annotation in (list, tuple):
        return ["a list"]
    if annotation is dict or (origin is dict and parts[1] in (Any, object, *_SINGULAR)):
        return ["a table"]
    return [_SINGULAR[annotation]] if annotation in _SINGULAR else []
