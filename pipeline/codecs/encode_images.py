"""Exemplars whose frames are pictures that stand alone: JPEG, WebP, AVIF, JPEG XL and plain PPM."""

from __future__ import annotations

import imagecodecs
import numpy as np
import simplejpeg

from vclimb.memory.store.exemplar import one_unit_a_frame
from vclimb.pipeline.clips.provider import EncodedClip
from vclimb.pipeline.codecs.decode import Pixels, ppm_header

# Every encoder runs in the calling thread: frames are small, and there are cores enough for several exemplars.


def encode_jpeg(pixels: Pixels, quality: float) -> EncodedClip:
    """libjpeg-turbo, 4:2:0. Frames (K, H, W, 3); quality 1 to 100, as libjpeg means it."""
    files = [
        simplejpeg.encode_jpeg(np.ascontiguousarray(frame), int(quality), colorsubsampling="420", fastdct=False)
        for frame in pixels
    ]
    return one_unit_a_frame("jpeg", files)


def encode_webp(pixels: Pixels, quality: float) -> EncodedClip:
    """libwebp, lossy. Frames (K, H, W, 3); quality 1 to 100."""
    files = [bytes(imagecodecs.webp_encode(frame, quality, lossless=False, method=4, numthreads=1)) for frame in pixels]
    return one_unit_a_frame("webp", files)


def encode_avif(pixels: Pixels, quality: float) -> EncodedClip:
    """libaom still pictures, 4:2:0. Frames (K, H, W, 3); quality 1 to 99, as libavif means it."""
    files = [
        bytes(imagecodecs.avif_encode(frame, int(quality), speed=6, pixelformat="yuv420", codec="aom", numthreads=1))
        for frame in pixels
    ]
    return one_unit_a_frame("avif", files)


def encode_jxl(pixels: Pixels, distance: float) -> EncodedClip:
    """libjxl, bare codestream. Frames (K, H, W, 3); Butteraugli distance: 1 is where loss is just visible."""
    files = [
        bytes(imagecodecs.jpegxl_encode(frame, distance=distance, effort=7, usecontainer=False, numthreads=1))
        for frame in pixels
    ]
    return one_unit_a_frame("jxl", files)


def encode_ppm(pixels: Pixels, _: float) -> EncodedClip:
    """Pixels as they are. Frames (K, H, W, 3)."""
    header = ppm_header(pixels.shape[2], pixels.shape[1])
    return one_unit_a_frame("ppm", [header + frame.tobytes() for frame in pixels])


def lacking(name: str) -> str | None:
    """What imagecodecs (`WEBP`, `AVIF`, `JPEGXL`) lacks, as the end of a sentence; None where it has it all."""
    if getattr(imagecodecs, name).available:
        return None
    return f"imagecodecs {imagecodecs.__version__} has no {name} (PyPI's wheels have: pip install imagecodecs)"
