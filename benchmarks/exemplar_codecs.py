"""Compare exemplar codecs: bytes, quality and speed on the same frames of real videos.

    python benchmarks/exemplar_codecs.py JPEG_SHARDS [--videos 64] [--frames 8] [--short-side 128] [--codecs ...]

JPEG_SHARDS is a prepared data set (codec jpeg). Every codec encodes and decodes `frames` uniform frames of `videos`
videos, spread over the classes, at the stored size and scaled down. PSNR (RGB) and SSIM (luma) compare with the codec's
input, after scaling; means over frames, with the minimum in brackets. At the stored size the input has been JPEG
before, which favours `jpeg`; scaled down, hardly so. Frames a second are those of one core, by the processor time of
all threads. Scaling is part of encoding.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from vclimb.memory.quality import psnr, ssim
from vclimb.pipeline.clips.provider import InstanceProvider, source_frames
from vclimb.pipeline.clips.sampling import segment_centres
from vclimb.pipeline.codecs.decode import decode_clip
from vclimb.pipeline.codecs.exemplar import ExemplarCodec, SourceFrames, parse_codec
from vclimb.pipeline.dataset.dataset import StoredDataset

CODECS = (
    *("jpeg:50", "jpeg:75", "jpeg:90", "webp:50", "webp:75", "webp:90", "avif:40", "avif:60", "avif:75"),
    *("jxl:3", "jxl:1.5", "jxl:1", "h264:15", "h264:20", "h264:24", "h264:28", "h265:20", "h265:24", "h265:28"),
    *("av1:25", "av1:35", "av1:45", "raw"),
)


@dataclass(frozen=True)
class Row:
    """Figures of one codec over all frames."""

    codec: str
    bytes_per_frame: float
    psnr_db: float
    least_psnr_db: float
    ssim: float
    encoded_per_second: float
    decoded_per_second: float

    def __str__(self) -> str:
        return (
            f"{self.codec:14} {self.bytes_per_frame / 1000:8.2f} {self.psnr_db:8.2f} ({self.least_psnr_db:5.2f}) "
            f"{self.ssim:8.4f} {self.encoded_per_second:10,.0f} {self.decoded_per_second:10,.0f}"
        )


def uniform_sources(folder: Path, videos: int, frames: int) -> list[SourceFrames]:
    """Choose uniform frames of videos at equal steps through the data set, whose videos are ordered by class."""
    dataset = StoredDataset.open(folder)
    longer = [instance for instance in dataset.instances if instance.end_frame - instance.start_frame >= frames]
    chosen = [longer[number] for number in segment_centres(np.array(len(longer)), min(videos, len(longer))).tolist()]
    provider = InstanceProvider(dataset, chosen)
    numbers = segment_centres(provider.items.n_frames, frames)
    return [source_frames(provider, item, numbers[item]) for item in range(len(chosen))]


def measure(codec: ExemplarCodec, sources: Sequence[SourceFrames]) -> Row:
    """Encode and decode all exemplars once, after a first exemplar that is not measured."""
    decode_clip((warm := codec.encode(sources[0])).clip, warm.width, warm.height, str)
    encoding = decoding = 0.0
    n_bytes, decibels, similarities = 0, [], []
    for source in sources:
        reference = codec.reference(source)  # decodes the source before time is taken
        start = time.process_time()
        encoded = codec.encode(source)
        middle = time.process_time()
        frames = decode_clip(encoded.clip, encoded.width, encoded.height, str)
        decoding += time.process_time() - middle
        encoding += middle - start
        n_bytes += sum(map(len, encoded.clip.units))
        decibels.append(psnr(reference, frames))
        similarities.append(ssim(reference, frames))
    quality = np.concatenate(decibels)
    n = len(quality)
    return Row(
        str(codec),
        n_bytes / n,
        float(quality.mean()),
        float(quality.min()),
        float(np.concatenate(similarities).mean()),
        n / encoding,
        n / decoding,
    )


def table(codecs: Iterable[ExemplarCodec], sources: Sequence[SourceFrames]) -> None:
    """Print a row for each codec as soon as it is measured."""
    print(f"{'codec':14} {'kB/frame':>8} {'PSNR dB':>8} {'':7} {'SSIM':>8} {'encoded/s':>10} {'decoded/s':>10}")
    for codec in codecs:
        print(measure(codec, sources), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("shards", type=Path)
    parser.add_argument("--videos", type=int, default=64)
    parser.add_argument("--frames", type=int, default=8)
    parser.add_argument("--short-side", type=int, default=128)
    parser.add_argument("--codecs", nargs="+", default=CODECS)
    args = parser.parse_args()

    sources = uniform_sources(args.shards, args.videos, args.frames)
    widths = {(source.width, source.height) for source in sources}
    sizes = ", ".join(f"{width}x{height}" for width, height in sorted(widths))
    print(f"{len(sources)} videos, {args.frames} frames each, of {sizes} pixels")
    table([parse_codec("copy"), *map(parse_codec, args.codecs)], sources)
    print(f"\nscaled down to a short side of {args.short_side} pixels")
    table([parse_codec(f"{spec}@{args.short_side}") for spec in args.codecs], sources)


if __name__ == "__main__":
    main()
