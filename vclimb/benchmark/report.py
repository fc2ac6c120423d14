"""What `vclimb bench` found: figures of each decoder, and what they say about what binds training."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vclimb.pipeline.stream.choose import Choice

LOSS_THAT_COUNTS = 0.05
"""Two figures that differ by less than this share are the same, on a machine that does other things too."""


@dataclass(frozen=True)
class Round:
    """Clips a second of a decoder, the model, and both together, one after the other.

    Attributes:
        decoder_clips_per_second: the stream alone; its batches arrive on the device and are dropped.
        model_clips_per_second: training on one repeated batch that lies on the device.
        fed_clips_per_second: training on what the stream yields.
    """

    decoder_clips_per_second: float
    model_clips_per_second: float
    fed_clips_per_second: float


@dataclass(frozen=True)
class Figures:
    """One decoder's rounds, and their medians."""

    rounds: tuple[Round, ...]

    @property
    def decoder_clips_per_second(self) -> float:
        return statistics.median(r.decoder_clips_per_second for r in self.rounds)

    @property
    def model_clips_per_second(self) -> float:
        return statistics.median(r.model_clips_per_second for r in self.rounds)

    @property
    def fed_clips_per_second(self) -> float:
        return statistics.median(r.fed_clips_per_second for r in self.rounds)

    @property
    def fed_per_model(self) -> float:
        """What is left of the model's speed when it is fed, in each round: 1 if the data costs nothing."""
        return statistics.median(r.fed_clips_per_second / r.model_clips_per_second for r in self.rounds)

    @property
    def slower_alone(self) -> Literal["decoder", "model"]:
        """Which of the two, each with the machine for itself, does fewer clips a second."""
        return "decoder" if self.decoder_clips_per_second < self.model_clips_per_second else "model"

    @property
    def binds(self) -> Literal["data", "model"]:
        """What has to become faster if training is to: the data too, where decoding slows down a slower model."""
        return "data" if self.slower_alone == "decoder" or self.fed_per_model < 1 - LOSS_THAT_COUNTS else "model"

    def to_json(self) -> dict[str, Any]:
        """The figures and what follows from them."""
        return {
            "decoder_clips_per_second": self.decoder_clips_per_second,
            "model_clips_per_second": self.model_clips_per_second,
            "fed_clips_per_second": self.fed_clips_per_second,
            "fed_per_model": self.fed_per_model,
            "slower_alone": self.slower_alone,
            "binds": self.binds,
            "rounds": [asdict(of_round) for of_round in self.rounds],
        }


@dataclass(frozen=True)
class BenchReport:
    """What was measured, on what.

    Attributes:
        dataset: its name.
        codec: of its frames.
        n_instances: that clips were drawn from.
        device: a GPU's name, or `cpu`.
        n_cores: that this process may use.
        model: timm's name.
        batch_clips: clips of a batch.
        clip_frames: T of a clip.
        size_pixels: side of a frame that the model sees.
        figure_seconds: that each figure was measured for, or longer.
        results: of the decoders that were measured.
        failed: decoder -> what it failed with.
        skipped: decoder -> why this machine or data set rules it out.
        auto: what `--decoder auto` takes for this data set on this device.
    """

    dataset: str
    codec: str
    n_instances: int
    device: str
    n_cores: int
    model: str
    batch_clips: int
    clip_frames: int
    size_pixels: int
    figure_seconds: float
    results: dict[str, Figures]
    failed: dict[str, str]
    skipped: dict[str, str]
    auto: Choice

    @property
    def fastest(self) -> str | None:
        """The decoder that training is fastest with, by the share of the model's speed that is left.

        It is auto's, unless another one is faster by more than chance.
        """
        shares = {decoder: figures.fed_per_model for decoder, figures in self.results.items()}
        best = max(shares, key=lambda decoder: shares[decoder], default=None)
        auto = self.auto.decoder
        return auto if best and shares.get(auto, 0) > shares[best] * (1 - LOSS_THAT_COUNTS) else best

    @property
    def model_spread(self) -> float:
        """The model's fastest round as a multiple of its slowest: 1 on a machine that does nothing else."""
        rates = [r.model_clips_per_second for figures in self.results.values() for r in figures.rounds]
        return max(rates) / min(rates) if rates else 1.0

    def to_json(self) -> dict[str, Any]:
        """All of it as `--json` prints it."""
        results = {decoder: figures.to_json() for decoder, figures in self.results.items()}
        return {**asdict(self), "results": results, "fastest": self.fastest, "model_spread": self.model_spread}
