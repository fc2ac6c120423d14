"""All codecs: those in this folder, those of installed packages, and those that the program has registered."""

from __future__ import annotations

import pkgutil
import re
from collections.abc import Iterable, Mapping
from functools import cache
from importlib import import_module
from importlib.metadata import entry_points
from pathlib import Path

from vclimb.pipeline.codecs.codec import Codec, PixelCodec
from vclimb.pipeline.errors import DatasetError, SettingsError

ENTRY_POINTS = "vclimb.codecs"

_registered: dict[str, Codec] = {}


def register_codec(codec: Codec) -> None:
    """Add a codec to this process, and to the worker processes of the streams that it opens.

    The codec's class must lie in a module that can be imported, because worker processes import it from there.
    A codec that is registered again replaces the one before.

    Raises:
        SettingsError: The class lies in the main module, or the name or kind of bytes belongs to another codec.
    """
    if type(codec).__module__ == "__main__":
        raise SettingsError(
            f"codec {codec.name!r} is defined in the main program, where worker processes don't see it; "
            "move it to a file and import it from there"
        )
    others = {name: other for name, other in _registered.items() if name != codec.name}
    _check(codec, [*_installed().values(), *others.values()])
    _registered[codec.name] = codec


def registered_codecs() -> tuple[Codec, ...]:
    """The codecs that `register_codec` added, for another process to register."""
    return tuple(_registered.values())


def codecs() -> Mapping[str, Codec]:
    """All codecs by name.

    Raises:
        SettingsError: A codec of an installed package can't be used.
    """
    return {**_installed(), **_registered}


def decoder_of(clip_codec: str) -> PixelCodec:
    """The codec that decodes a kind of bytes.

    Raises:
        DatasetError: There is none.
    """
    decoder = _decoders().get(clip_codec) or next(
        (codec for codec in _pixel_codecs(_registered.values()) if codec.clip_codec == clip_codec), None
    )
    if decoder is None:
        known = ", ".join(codec.clip_codec for codec in _pixel_codecs(codecs().values()))
        raise DatasetError(f"frames of codec {clip_codec!r} can't be decoded; this version knows {known}")
    return decoder


@cache
def _decoders() -> Mapping[str, PixelCodec]:
    return {codec.clip_codec: codec for codec in _pixel_codecs(_installed().values())}


@cache
def _installed() -> Mapping[str, Codec]:
    """Codecs of this folder, by file name, and then those of entry points."""
    by_name: dict[str, Codec] = {}
    for module in pkgutil.iter_modules([str(Path(__file__).parent)]):
        codec = getattr(import_module(f"{__package__}.{module.name}"), "CODEC", None)
        if codec is not None:
            by_name[codec.name] = codec
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda point: point.name):
        try:
            codec = point.load()
            if isinstance(codec, type):
                codec = codec()
            if not isinstance(codec, Codec):
                raise TypeError("it does not extend vclimb.pipeline.codecs.Codec")
            _check(codec, by_name.values())
        except Exception as error:
            raise SettingsError(
                f"codec {point.name!r} of an installed package ({point.value}) can't be used: {error}; "
                "repair or uninstall the package"
            ) from error
        by_name[codec.name] = codec
    return by_name


def _check(codec: Codec, others: Iterable[Codec]) -> None:
    if not re.fullmatch(r"[a-z0-9_]+", codec.name):
        raise SettingsError(
            f"codec name {codec.name!r} is not allowed; write lower-case letters, digits or underscores"
        )
    for other in others:
        if codec.name == other.name:
            raise SettingsError(f"codec {codec.name!r} is there already; choose another name")
        if isinstance(other, PixelCodec) and codec.clip_codec == other.clip_codec and isinstance(codec, PixelCodec):
            raise SettingsError(
                f"bytes of kind {codec.clip_codec!r} belong to codec {other.name!r}; choose another kind"
            )


def _pixel_codecs(candidates: Iterable[Codec]) -> list[PixelCodec]:
    return [codec for codec in candidates if isinstance(codec, PixelCodec)]
