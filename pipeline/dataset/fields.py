"""Types of the values in a data set's files, with the ranges that pydantic checks where they are read."""

from __future__ import annotations

from typing import Annotated

from pydantic import AfterValidator, Field, StringConstraints

from vclimb.pipeline.dataset.settings import Rate
from vclimb.pipeline.sources.keys import is_key
from vclimb.pipeline.system.plain_name import plain_name


def _key(text: str) -> str:
    if not is_key(text):
        raise ValueError(f"{ascii(text)[:60]} is not a key")
    return text


def _tar_name(name: str) -> str:
    if not plain_name(name).endswith(".tar"):
        raise ValueError(f"{name!r} is not the name of a tar")
    return name


MOST = 2**53
"""Greatest number of bytes or frames: the last up to which each whole number is a float."""
MOST_SIDE = 65_535

Key = Annotated[str, AfterValidator(_key)]
TarName = Annotated[str, AfterValidator(_tar_name)]
Sha256 = Annotated[str, StringConstraints(pattern=r"\A[0-9a-f]{64}\z")]
Split = Annotated[str, StringConstraints(pattern=r"\A(train|val|test)\z")]
Size = Annotated[int, Field(ge=0, le=MOST)]
Count = Annotated[int, Field(ge=1, le=MOST)]
Side = Annotated[int, Field(ge=1, le=MOST_SIDE)]
Seconds = Annotated[float, Field(allow_inf_nan=False)]
PositiveRate = Annotated[Rate, Field(gt=0)]
