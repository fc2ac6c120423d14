"""Features that a memory keeps in place of frames: as 32-bit or 16-bit floats, or as 8-bit integers with a scale.

codec = parse_feature_codec("features:int8")    # or frame-features:int8
arrays = codec.encode(features)    # what an exemplar keeps, by name
codec.decode(arrays)               # float32 features, replayed without decoding frames
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from vclimb.memory.store.stored_array import CHECKSUM_BYTES, AnyArray
from vclimb.memory.store.stored_class import FEATURES
from vclimb.pipeline.errors import SettingsError, VclimbError

FEATURE_SCALE = "features_scale"
"""Name of the array with the scales of features of 8 bits."""

_NAMES = {"fp32": np.float32, "fp16": np.float16, "int8": np.int8}
_OF_CLIP, _OF_FRAMES = "features", "frame-features"
_MOST_INT8 = 127

Features = npt.NDArray[np.floating]
Features32 = npt.NDArray[np.float32]


@dataclass(frozen=True)
class FeatureCodec:
    """A type of numbers that features are kept in.

    Rounding errors of a number x, where m is the largest magnitude of its feature's numbers: `fp32` none for features
    of 32 bits; `fp16` at most |x| / 2048, or 2^-25 where |x| is below 2^-14; `int8` at most m / 254, half a step of the
    feature's scale.

    Attributes:
        dtype: Type: `fp32`, `fp16` or `int8`.
        of_frames: Whether the features of K frames are kept, in place of one of the whole clip.
    """

    dtype: str
    of_frames: bool = False

    def __str__(self) -> str:
        return f"{_OF_FRAMES if self.of_frames else _OF_CLIP}:{self.dtype}"

    @property
    def has_scale(self) -> bool:
        """Whether an array of scales is kept beside the features."""
        return self.dtype == "int8"

    def n_bytes(self, n_features: int, n_frames: int = 1) -> int:
        """Count the bytes that the features of a video, of D numbers for each of K frames, take in a memory's files."""
        arrays = self.encode(np.zeros((n_frames, n_features), np.float32))
        return sum(array.nbytes + CHECKSUM_BYTES for array in arrays.values())

    def encode(self, features: Features) -> dict[str, AnyArray]:
        """Encode the features of a video: (D,) of the whole clip, or (K, D) of K frames.

        Returns:
            `features` (K, D), K of 1 for a whole clip, and with `int8` `features_scale` (K,) float32.

        Raises:
            VclimbError: a feature isn't finite, or its numbers are too large for the type.
        """
        rows = np.atleast_2d(np.asarray(features, np.float32))
        if rows.ndim != 2 or not rows.size:
            raise ValueError(f"features of shape {np.shape(features)} are neither (D,) nor (K, D)")
        if not np.isfinite(rows).all():
            raise VclimbError("features hold NaN or infinity; they can't be kept")
        largest = np.abs(rows).max(axis=1)
        if self.has_scale:
            scale = (largest / np.float32(_MOST_INT8)).astype(np.float32)
            steps = np.rint(rows / np.where(scale > 0, scale, 1)[:, None])
            return {FEATURES: steps.clip(-_MOST_INT8, _MOST_INT8).astype(np.int8), FEATURE_SCALE: scale}
        if self.dtype == "fp16" and largest.max() > np.finfo(np.float16).max:
            raise VclimbError(f"features up to {largest.max():g} don't fit in fp16, whose largest is 65504; keep fp32")
        return {FEATURES: rows.astype(_NAMES[self.dtype])}

    def decode(self, arrays: Mapping[str, AnyArray]) -> Features32:
        """Decode features (..., K, D) of one or more exemplars to float32, in the shape that they are kept in."""
        features = arrays[FEATURES].astype(np.float32)
        if self.has_scale:
            features *= arrays[FEATURE_SCALE].astype(np.float32)[..., None]
        return features


def keeps_features(codec: str) -> bool:
    """Tell whether a codec of a memory keeps features in place of frames."""
    return codec.partition(":")[0] in (_OF_CLIP, _OF_FRAMES)


def parse_feature_codec(text: str) -> FeatureCodec:
    """Read `features:fp32`, `features:fp16`, `features:int8`, or one of `frame-features`; without a type it is `fp16`.

    Raises:
        SettingsError: it is none of these.
    """
    name, colon, dtype = text.partition(":")
    if not keeps_features(name) or (colon and dtype not in _NAMES):
        allowed = ", ".join(str(FeatureCodec(known, of_frames)) for of_frames in (False, True) for known in _NAMES)
        raise SettingsError(f"codec {text!r} keeps no features that are known; allowed: {allowed}")
    return FeatureCodec(dtype or "fp16", name == _OF_FRAMES)
