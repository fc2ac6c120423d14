"""The state of torch's own random numbers, which dropout draws from."""

from __future__ import annotations

import torch
from torch import Tensor


def seed_all(seed: int) -> None:
    """Seed the random numbers of every device."""
    torch.manual_seed(seed)


def rng_state(device: torch.device) -> dict[str, Tensor]:
    """The state of the CPU's, and of the device's."""
    state = {"cpu": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def set_rng_state(state: dict[str, Tensor], device: torch.device) -> None:
    """Take up a state; one that was saved without this kind of device leaves it."""
    torch.set_rng_state(state["cpu"].cpu())
    if device.type == "cuda" and "cuda" in state:
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
