"""The GPU's libraries: their start beside other work, and how cuDNN chooses its kernels."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import torch

from vclimb.pipeline.errors import GpuMemoryError

# What PyTorch, CUDA, cuBLAS and cuDNN say where memory is lacking.
_MEMORY_IS_LACKING = ("out of memory", "ALLOC_FAILED")


@contextmanager
def gpu_starting(device: torch.device) -> Iterator[None]:
    """Start a GPU and load cuDNN in a thread while the block runs, such as during imports, and wait for it at the end.

    An error is left to the first use of the GPU by the block or after it, which meets it again.
    """
    if device.type != "cuda":
        yield
        return
    thread = threading.Thread(target=_use, args=(device,), name="gpu-start", daemon=True)
    thread.start()
    try:
        yield
    finally:
        thread.join()


def _use(device: torch.device) -> None:
    with suppress(RuntimeError), torch.inference_mode():
        pixels, kernel = torch.zeros(1, 8, 8, 8, device=device), torch.zeros(8, 8, 3, 3, device=device)
        torch.nn.functional.conv2d(pixels, kernel)
        torch.cuda.synchronize(device)


@contextmanager
def memory_explained(device: torch.device) -> Iterator[None]:
    """Turn errors for lack of GPU memory into a GpuMemoryError."""
    try:
        yield
    except RuntimeError as error:  # torch.OutOfMemoryError is one; libraries of the GPU raise others
        text = str(error)
        if not isinstance(error, torch.OutOfMemoryError) and (
            device.type != "cuda" or not any(words in text for words in _MEMORY_IS_LACKING)
        ):
            raise
        tried = next((part for part in text.split(". ") if part.startswith("Tried")), "an allocation failed")
        raise GpuMemoryError(
            f"the run doesn't fit into the memory of {device} ({tried}); take a smaller training.batch_size, or fewer "
            "runs a GPU (--jobs-per-gpu, --jobs)"
        ) from None


@contextmanager
def cudnn_search(limit: int) -> Iterator[None]:
    """Let cuDNN time up to `limit` kernels for each shape of a convolution in a block; 0: take the expected best."""
    cudnn = torch.backends.cudnn
    before = cudnn.benchmark, cudnn.benchmark_limit
    cudnn.benchmark = limit > 0
    if limit:
        cudnn.benchmark_limit = limit
    try:
        yield
    finally:
        cudnn.benchmark, cudnn.benchmark_limit = before
