"""Parts of the tests of methods: drawn samples, a linear model, limits of property tests."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor, nn

Doubles = npt.NDArray[np.float64]
N_FEATURES, N_CLASSES = 3, 4

quickly = settings(deadline=None, max_examples=30)
seeds = st.integers(0, 2**31)


def random_normal(seed: int, *shape: int) -> Tensor:
    """Draw normal numbers that depend on nothing but the seed."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def make_linear() -> nn.Linear:
    """Make a linear model of 3 features and 4 classes, always the same."""
    torch.manual_seed(0)
    return nn.Linear(N_FEATURES, N_CLASSES)


def drawn_samples(n_samples: int, seed: int = 2) -> tuple[Tensor, Tensor]:
    """Draw samples (n, 3) and labels (n,) for the linear model."""
    generator = torch.Generator().manual_seed(seed)
    clips = torch.randn(n_samples, N_FEATURES, generator=generator)
    return clips, torch.randint(N_CLASSES, (n_samples,), generator=generator)
