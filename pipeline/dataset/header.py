"""dataset.json: the files that a data set consists of, and what they hold in total.

It holds the SHA-256 of its own content and of the other files, so that nothing of a data set changes unnoticed.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from io import BufferedIOBase
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator, with_config

from vclimb.pipeline.dataset.fields import Count, Sha256, Size, TarName
from vclimb.pipeline.dataset.settings import EncodeSettings
from vclimb.pipeline.dataset.shard import ShardFiles
from vclimb.pipeline.dataset.storage import Storage
from vclimb.pipeline.errors import DatasetError, DatasetFileError, DatasetMissingError, TooManyFilesError
from vclimb.pipeline.system.durable import draft_of
from vclimb.pipeline.system.plain_name import PlainName
from vclimb.pipeline.system.sealed_json import parse_object, sealed, unsealed
from vclimb.pipeline.system.validation import first_problem

FORMAT_VERSION = 3
HEADER, VIDEOS, INSTANCES, ERRORS = "dataset.json", "videos.parquet", "instances.parquet", "errors.jsonl"
DRAFT = draft_of(Path(HEADER)).name
"""The dataset.json of a catalog that is being written; see `Catalog.write`."""


class _Stored(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)


@with_config(_Stored.model_config)
@dataclass(frozen=True, slots=True)  # a third of the memory of a model
class StoredShard:
    """A shard: its number, and the fields of `ShardFiles`."""

    number: Annotated[int, Field(ge=0, lt=2**31)]
    tar: TarName
    tar_bytes: Count
    tar_sha256: Sha256
    idx_sha256: Sha256
    frames_sha256: Sha256
    n_videos: Count
    n_frames: Count

    def files(self) -> ShardFiles:
        """The shard's files."""
        digests = self.tar_sha256, self.idx_sha256, self.frames_sha256
        return ShardFiles(self.tar, self.tar_bytes, *digests, self.n_videos, self.n_frames)


class Totals(_Stored):
    """Counts, bytes and seconds over a data set."""

    classes: Size
    videos: Size
    instances: Size
    frames: Size
    seconds: Annotated[float, Field(ge=0, allow_inf_nan=False)]
    bytes: Size
    source_bytes: Size
    errors: Size


class Digests(_Stored):
    """SHA-256 of the files beside dataset.json."""

    videos: Sha256 = Field(alias="videos.parquet")
    instances: Sha256 = Field(alias="instances.parquet")
    errors: Sha256 = Field(alias="errors.jsonl")

    def of(self, name: str) -> str:
        return {VIDEOS: self.videos, INSTANCES: self.instances, ERRORS: self.errors}[name]


class Header(_Stored):
    """The content of dataset.json."""

    name: PlainName
    format_version: int
    settings: EncodeSettings
    settings_sha256: Sha256
    ffmpeg: list[str]
    classes: list[str]
    totals: Totals
    files: Digests
    shards: list[StoredShard]
    sha256: Sha256

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.settings_sha256 != self.settings.digest():
            raise ValueError("settings don't have the SHA-256 that settings_sha256 names")
        numbers = [shard.number for shard in self.shards]
        if numbers != sorted(set(numbers)) or len({shard.tar for shard in self.shards}) != len(numbers):
            raise ValueError("shards are not in the order of their numbers, or one is listed twice")
        return self


def header_bytes(content: dict[str, Any]) -> bytes:
    """dataset.json of a content without its SHA-256."""
    return (json.dumps(sealed(content), indent=1, ensure_ascii=False) + "\n").encode()


def read_header(storage: Storage) -> Header:
    """Read dataset.json.

    Raises:
        DatasetMissingError: There is no dataset.json.
        DatasetError: It has another format version, or isn't as it was written.
    """
    return _read(storage, HEADER)


def _read(storage: Storage, name: str) -> Header:
    try:
        data = storage.read(name)
    except FileNotFoundError:
        how = f"make one with `vclimb prepare SOURCE --out {storage}`"
        raise DatasetMissingError(f"{storage} is not a prepared data set (no {name}); {how}") from None
    except TooManyFilesError:
        raise
    except OSError as error:
        raise DatasetError(f"{name} of {storage} can't be read: {error.strerror or error}") from None
    try:
        document = parse_object(data)
    except ValueError as error:
        raise DatasetFileError(str(storage), name, str(error)) from None
    version = document.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise DatasetError(
            f"{storage} has format version {ascii(version)[:40]}; this vclimb reads version {FORMAT_VERSION}"
        )
    try:
        unsealed(document)
        return Header.model_validate_json(data)
    except ValueError as error:
        problem = first_problem(error) if isinstance(error, ValidationError) else str(error)
        raise DatasetFileError(str(storage), name, problem) from None


def open_digested(storage: Storage, header: Header, name: str) -> tuple[BufferedIOBase, Header]:
    """Open a file beside dataset.json, and return with it the header that holds its SHA-256.

    That is the draft of the next header where a run was killed while it wrote the catalog.

    Raises:
        DatasetFileError: The file is missing, or no header holds its SHA-256.
    """
    try:
        file = storage.open(name)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    except FileNotFoundError:
        raise DatasetFileError(str(storage), name, "it is missing") from None
    except TooManyFilesError:
        raise
    except OSError as error:
        raise DatasetFileError(str(storage), name, f"it can't be read: {error.strerror or error}") from None
    file.seek(0)
    if digest == header.files.of(name):
        return file, header
    try:
        draft = _read(storage, DRAFT)
    except DatasetError:
        draft = header
    if digest != draft.files.of(name):
        file.close()
        raise DatasetFileError(str(storage), name, f"its SHA-256 is not the one in {HEADER}")
    return file, draft
