"""The result of packing a memory."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from vclimb.memory.settings import MemorySettings


@dataclass(frozen=True)
class MemoryQuality:
    """What the frames of a memory have lost, compared with what was encoded, at the size that is stored.

    Attributes:
        frames: Number of frames compared.
        identical: Number of frames that have lost nothing.
        psnr_db: Mean PSNR of the frames that differ, in dB; None where none does.
        worst_psnr_db: Lowest PSNR, in dB.
        ssim: Mean SSIM of all frames; None where none is large enough to be measured.
        worst_ssim: Lowest SSIM.
    """

    frames: int
    identical: int
    psnr_db: float | None
    worst_psnr_db: float | None
    ssim: float | None
    worst_ssim: float | None

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, for `--json`."""
        return asdict(self)


@dataclass(frozen=True)
class PackSummary:
    """What packing did.

    Attributes:
        dataset: Folder or URL of the data set.
        split: Split of the instances; None: all instances.
        settings: Settings of the memory.
        candidates: Number of instances to choose from.
        candidate_classes: Number of classes of these instances.
        added: Number of exemplars packed.
        skipped: Reasons why instances were passed over: their frames are damaged.
        seconds: Wall time.
        quality: What the kept frames have lost; None where it was not measured.
    """

    dataset: str
    split: str | None
    settings: MemorySettings
    candidates: int
    candidate_classes: int
    added: int
    skipped: tuple[str, ...]
    seconds: float
    quality: MemoryQuality | None

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values, for `--json`."""
        return {
            "dataset": self.dataset,
            "split": self.split,
            **dict(self.settings),
            "rebalance": self.settings.rebalances,
            "budget": str(self.settings.budget),
            "candidates": self.candidates,
            "classes_of_candidates": self.candidate_classes,
            "passed_over": list(self.skipped),
            "seconds": self.seconds,
        }
