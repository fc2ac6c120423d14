"""A process of a training that benchmarks/scaling.py measures: `vclimb`, with one cost taken out or added.

    python benchmarks/scaling_process.py VARIANT train ...

Variants: `whole`: nothing is taken out. `eager`: steps aren't replayed as CUDA graphs, by a setting. `repeated`: the
first batch is trained on again and again, so that nothing is decoded. `unsynced`: gradients aren't averaged over
processes, which therefore drift apart. `broadcast-buffers`: the buffers of batch normalisation are broadcast before
each step, and gradients are copied to the buckets that are sent, as DistributedDataParallel does by default.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import Any

import vclimb.training.learner as learner
from vclimb.cli.__main__ import main
from vclimb.pipeline.stream.cpu import CpuClipStream


def take_out(variant: str) -> None:
    """Change the trainer of this process to a variant."""
    if variant == "repeated":
        decode: Any = CpuClipStream._decode

        def repeated(stream: CpuClipStream, plans: Iterator[Any]) -> Generator[Any, None, None]:
            if not stream.settings.across_epochs:  # evaluation
                yield from decode(stream, plans)
                return
            first: Any = None
            for plan in plans:
                if first is None or len(first.keys) != len(plan.items):
                    (first,) = decode(stream, iter([plan]))
                    first = replace(first, views={name: view.clone() for name, view in first.views.items()})
                yield replace(first, plan=plan)

        CpuClipStream._decode = repeated  # type: ignore[method-assign]
    elif variant == "unsynced":
        learner.DistributedDataParallel = lambda network, **_: network  # type: ignore[misc, assignment]
    elif variant == "broadcast-buffers":
        wrapped: Any = learner.DistributedDataParallel
        learner.DistributedDataParallel = lambda network, **options: wrapped(  # type: ignore[misc, assignment]
            network, **{**options, "broadcast_buffers": True, "gradient_as_bucket_view": False}
        )


if __name__ == "__main__":
    take_out(sys.argv.pop(1))
    main()
