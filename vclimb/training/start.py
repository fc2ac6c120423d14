"""What the start of a run is spent on, up to its first training step. Importing this module loads no torch."""

from __future__ import annotations

import time
from collections.abc import Mapping

PARTS: Mapping[str, str] = {
    "settings": "checks of the settings",
    "imports": "import of torch and of the method",
    "data": "data set and scenario",
    "network": "network, its library and weights, and the start of the GPU",
    "folder": "folder of the run and logs, and a checkpoint where the run is resumed",
    "task": "items of the task, and what the method does before training",
    "clips": "wait for the first batch of clips",
    "first_step": "first training step, with the plans of the GPU's libraries",
}
"""Part of a start -> what it is spent on, in the order of a run."""


class StartClock:
    """Wall time from the call that trains to the end of the process' first training step, by part.

    Attributes:
        seconds: Part -> wall time.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.is_running = True
        self._last = time.perf_counter()

    def end(self, part: str) -> None:
        """Count the time since the end of the part before as spent on a part."""
        now = time.perf_counter()
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now

    def stop(self) -> None:
        self.is_running = False


def start_line(seconds: Mapping[str, float]) -> str:
    """Describe a start, as in `first step after 5.2 s: imports 1.9, network 2.8`; short parts are left out."""
    shown = [f"{part.replace('_', ' ')} {value:.1f}" for part, value in seconds.items() if value >= 0.05]
    return ": ".join([f"first step after {sum(seconds.values()):.1f} s", *([", ".join(shown)] if shown else [])])
