"""All codecs: those in this folder, those of installed packages, and those that the program has registered."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache

from vclimb.pipeline.codecs.codec import Codec, PixelCodec
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.plugins import Registry

CODECS = Registry[Codec](
    "codec", "vclimb.pipeline.codecs", group="vclimb.codecs", base="vclimb.pipeline.codecs.codec:Codec"
)

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
    if not re.fullmatch(r"[a-z0-9_]+", codec.name):
        raise SettingsError(
            f"codec name {codec.name!r} is not allowed; write lower-case letters, digits or underscores"
        )
    if codec.name in _installed():
        raise SettingsError(f"codec {codec.name!r} is there already; choose another name")
    for other in codecs().values():
        both = isinstance(other, PixelCodec) and isinstance(codec, PixelCodec)
        if both and other.clip_codec == codec.clip_codec and other.name != codec.name:
            raise SettingsError(
                f"bytes of kind {codec.clip_codec!r} belong to codec {other.name!r}; choose another kind"
            )
    _registered[codec.name] = codec
    pixel_codecs.cache_clear()


def registered_codecs() -> tuple[Codec, ...]:
    """The codecs that `register_codec` added, for another process to register."""
    return tuple(_registered.values())


def own_modules() -> list[str]:
    """Names of the modules of vclimb's own codecs, which a fork server imports once for all its workers."""
    places = [listing.place.partition(":")[0] for listing in CODECS.listings().values()]
    return sorted({place for place in places if place.startswith("vclimb.pipeline.codecs.")})


def codecs() -> Mapping[str, Codec]:
    """All codecs by name.

    Raises:
        SettingsError: A codec of an installed package can't be used.
    """
    return {**_installed(), **_registered}


@cache
def pixel_codecs() -> Mapping[str, PixelCodec]:
    """The codecs that decode to pixels, by their kind of bytes. Streams look one up for every clip."""
    return {codec.clip_codec: codec for codec in codecs().values() if isinstance(codec, PixelCodec)}


@cache
def _installed() -> Mapping[str, Codec]:
    return {name: CODECS.find(name)() for name in CODECS.listings()}
