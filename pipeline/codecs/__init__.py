"""Encoded frames to pixels and back: one class a codec, in both directions.

A codec of your own is one file too, outside of this package: see `vclimb.pipeline.codecs.codec`.
"""

from vclimb.pipeline.codecs.codec import Codec, PictureCodec, PixelCodec, Scale
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.encoded import EncodedClip, one_unit_a_frame, one_unit_for_all
from vclimb.pipeline.codecs.exemplar import EncodedFrames, ExemplarCodec, SourceFrames, parse_codec, scaled_down
from vclimb.pipeline.codecs.registry import codecs, register_codec, registered_codecs

__all__ = [
    "Codec",
    "EncodedClip",
    "EncodedFrames",
    "ExemplarCodec",
    "PictureCodec",
    "PixelCodec",
    "Scale",
    "SourceFrames",
    "codecs",
    "decode_clip",
    "one_unit_a_frame",
    "one_unit_for_all",
    "parse_codec",
    "register_codec",
    "registered_codecs",
    "scaled_down",
]
