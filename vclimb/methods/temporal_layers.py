"""Training of what lies above the features of frames: temporal layers and a head, on features that don't change."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from vclimb.methods.batch import FeatureSamples
from vclimb.model.frame_model import FrameModel
from vclimb.pipeline.errors import VclimbError

BATCH_SIZE = 32
WEIGHT_DECAY = 0.05


def fit_layers_above(
    model: FrameModel, samples: FeatureSamples, n_classes: int, learning_rate: float, steps: int, seed: int
) -> None:
    """Train the layers above the frames' features, and the head, by AdamW with a cosine schedule.

    Each sample of a batch is of a class that is drawn first, so that classes count the same. The result is a function
    of the network's weights, the samples in their order, and the seed; torch's random state is as it was. Classes
    without samples are never predicted.

    Raises:
        VclimbError: there are no samples, features are not finite, or training has diverged.
    """
    if not len(samples.features):
        raise VclimbError("no class has samples; temporal layers need some")
    if not samples.features.isfinite().all():
        raise VclimbError("features hold NaN or infinity; no temporal layers can be fitted to them")
    device = model.head.weight.device
    shown = torch.as_tensor(samples.shown, device=device)
    features, labels = samples.features.to(device), samples.labels
    places = [torch.nonzero(labels == label).flatten() for label in range(n_classes)]
    present = torch.tensor([label for label in range(n_classes) if len(places[label])])
    counts = torch.tensor([len(places[label]) for label in present.tolist()])
    by_class = torch.cat([places[label] for label in present.tolist()])
    starts = counts.cumsum(0) - counts
    columns = present.to(device)
    parameters = [*model.layers_above(), *model.head.parameters()]
    optimiser = torch.optim.AdamW(parameters, lr=learning_rate, weight_decay=WEIGHT_DECAY)
    with torch.enable_grad(), _seeded(seed, device):
        model.train()
        for step in range(steps):
            optimiser.param_groups[0]["lr"] = learning_rate * (1 + math.cos(math.pi * step / steps)) / 2
            drawn = torch.randint(len(present), (BATCH_SIZE,))
            within = (torch.rand(BATCH_SIZE, dtype=torch.float64) * counts[drawn]).long()
            batch = by_class[starts[drawn] + within].to(device)
            logits = model.classify_frames(features[batch][:, shown])[:, columns]
            loss = nn.functional.cross_entropy(logits, drawn.to(device))
            optimiser.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimiser.step()
    model.eval()
    if not all(bool(parameter.isfinite().all()) for parameter in parameters):
        raise VclimbError(f"training of temporal layers has diverged; take a lower rate than {learning_rate:g}")
    absent = [label for label in range(n_classes) if not len(places[label])]
    with torch.no_grad():
        model.head.weight[absent] = 0.0
        model.head.bias[absent] = -math.inf


@contextmanager
def _seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed torch within a block, and restore its random state after it."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield
