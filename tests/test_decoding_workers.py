"""What the processes that decode clips import, and how they resize: without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from memory_stream_cases import mixed_memory
from stream_cases import CENTRES, provider_of, settings_of

from vclimb.memory.decoded import DecodedExemplars
from vclimb.memory.provider import ExemplarProvider
from vclimb.pipeline.clips.provider import ChosenItems, ClipProvider, ConcatProvider
from vclimb.pipeline.stream.cpu import CpuClipStream
from vclimb.pipeline.stream.resize import FrameResizer
from vclimb.pipeline.stream.workers import BatchWorkers, kept_workers

# What takes longest to import of all that vclimb uses elsewhere.
SLOW = {"torch", "torchvision", "timm", "zarr", "matplotlib", "pandas", "nvidia", "webdataset", "rich", "typer"}


def test_workers_import_no_torch_whatever_they_decode(jpeg_folder: Path, h264_folder: Path, tmp_path: Path) -> None:
    exemplars = ExemplarProvider(mixed_memory(tmp_path / "m.zarr", provider_of(jpeg_folder)))
    with DecodedExemplars(exemplars, cache_bytes=10**6, taken=()) as decoded, kept_workers():
        kinds: list[ClipProvider] = [provider_of(jpeg_folder), provider_of(h264_folder), exemplars, decoded]
        provider = ChosenItems(ConcatProvider(kinds), np.arange(sum(len(kind.items) for kind in kinds))[::-1])
        with CpuClipStream(provider, settings_of(views=CENTRES), workers=1) as stream:
            assert sum(len(batch.keys) for batch in stream) == len(provider.items)
        evaluated: BatchWorkers[str, object] = BatchWorkers(eval, 1)  # in the worker that the stream has left
        [modules, threads] = evaluated.run(
            iter(["{*__import__('sys').modules}", "__import__('os').environ['OMP_NUM_THREADS']"])
        )
        evaluated.close()
    assert isinstance(modules, set)
    assert "vclimb.pipeline.stream.batch_decoder" in modules
    assert modules & SLOW == set()
    assert threads == "1"


@pytest.mark.parametrize("content", ["noise", "smooth"])
@pytest.mark.parametrize(("height", "width", "size"), [(240, 240, 112), (158, 210, 224), (33, 90, 48), (64, 64, 64)])
def test_frames_are_resized_as_torch_does(content: str, height: int, width: int, size: int) -> None:
    draws: dict[str, Callable[[], object]] = {
        "noise": lambda: np.random.default_rng(0).integers(0, 256, (2, height, width + 7, 3), np.uint8),
        "smooth": lambda: np.linspace(0, 255, 2 * height * (width + 7) * 3).reshape(2, height, -1, 3).astype(np.uint8),
    }
    cut = np.asarray(draws[content]())[:, :, 3 : width + 3]
    frames, mirrored = np.empty((2, 2, size, size, 3), np.uint8)
    resizer = FrameResizer(size)
    for number, frame in enumerate(cut):
        resizer.resize_into(frames[number], frame, flip=False)
        resizer.resize_into(mirrored[number], frame, flip=True)
    channels_first = torch.from_numpy(np.ascontiguousarray(cut)).permute(0, 3, 1, 2)
    expected = torch.nn.functional.interpolate(
        channels_first.float(), (size, size), mode="bilinear", antialias=True
    ).permute(0, 2, 3, 1)
    np.testing.assert_array_equal(mirrored[:, :, ::-1], frames)
    assert (torch.from_numpy(frames).float() - expected).abs().max() <= 1
