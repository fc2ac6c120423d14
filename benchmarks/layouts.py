"""Training steps on a GPU with the channels of a batch together or apart: the first step and later ones.

    python benchmarks/layouts.py --size 112

The first step includes cuDNN's planning and, in the first row, the start of CUDA. A step is wall time with launches;
the kernels are the GPU's part of it.
"""

from __future__ import annotations

import argparse

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from vclimb.benchmark.throughput import timed
from vclimb.model.memory_format import layout_for
from vclimb.model.registry import make_network
from vclimb.model.settings import ModelConfig

LAYOUTS = ("together", "apart")
WARM_UP, TIMED, PROFILED = 2, 10, 3


def measure(backbone: str, layout: str, clips: int, frames: int, size: int) -> tuple[float, float, float]:
    """Measure seconds of the first step, of a later step, and of its kernels."""
    torch.manual_seed(0)
    device = torch.device("cuda")
    model = make_network(ModelConfig(backbone=backbone, weights="none"), 10).to(device).train()
    optimizer = torch.optim.SGD(model.parameters(), 0.01, momentum=0.9)
    batch = torch.randint(0, 256, (clips, frames, size, size, 3), dtype=torch.uint8, device=device)
    pixels = layout_for(batch.permute(0, 1, 4, 2, 3), whole=layout == "together")
    labels = torch.randint(0, 10, (clips,), device=device)

    def steps(number: int) -> int:
        for _ in range(number):
            with torch.autocast(device.type, torch.bfloat16):
                loss = nn.functional.cross_entropy(model(pixels), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        return number

    first = 1 / timed(lambda: steps(1), device)
    steps(WARM_UP)
    step = 1 / timed(lambda: steps(TIMED), device)
    with profile(activities=[ProfilerActivity.CUDA]) as recorded:
        timed(lambda: steps(PROFILED), device)  # `timed` waits for their end
    kernels = sum(event.self_device_time_total for event in recorded.key_averages()) / 1e6 / PROFILED
    return first, step, kernels


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=["tf_efficientnet_lite0.in1k", "resnet34.tv_in1k"])
    parser.add_argument("--clips", type=int, default=32, help="clips in a batch")
    parser.add_argument("--clip-frames", type=int, default=8, help="frames in a clip")
    parser.add_argument("--size", type=int, default=112, help="side of the square frames in pixels")
    options = parser.parse_args()
    if not torch.cuda.is_available():
        parser.error("there is no GPU to measure")
    print("| backbone | channels | first step, s | a step, ms | its kernels, ms |\n|---|---|---|---|---|")
    for backbone in options.backbones:
        for layout in LAYOUTS:
            first, step, kernels = measure(backbone, layout, options.clips, options.clip_frames, options.size)
            print(f"| {backbone} | {layout} | {first:.1f} | {1e3 * step:.1f} | {1e3 * kernels:.1f} |", flush=True)


if __name__ == "__main__":
    main()
