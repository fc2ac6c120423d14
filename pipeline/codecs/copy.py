"""Exemplars that keep the data set's own JPEG files."""

from __future__ import annotations

from collections.abc import Callable

from vclimb.pipeline.arrays import Pixels
from vclimb.pipeline.codecs.codec import Codec
from vclimb.pipeline.codecs.encoded import EncodedClip, one_unit_a_frame
from vclimb.pipeline.errors import SettingsError


class Copy(Codec):
    """Keeps stored JPEG files: no work and no loss."""

    name = "copy"
    clip_codec = "jpeg"
    resizes = False

    def refusal(self, clip_codec: str) -> str | None:
        if clip_codec == self.clip_codec:
            return None
        return (
            f"codec copy keeps the JPEG frames of a data set, and this one holds {clip_codec}; use h264 or another "
            "codec, or prepare the data set with --codec jpeg"
        )

    def encode_stored(self, clip: EncodedClip, pixels: Callable[[], Pixels], number: float) -> EncodedClip:
        if reason := self.refusal(clip.codec):
            raise SettingsError(reason)
        return one_unit_a_frame(self.clip_codec, [clip.units[unit] for unit in clip.unit.tolist()])
