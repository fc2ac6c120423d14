"""The report of `vclimb.bench`: figures of each decoder, and whether data or model limits training."""

from __future__ import annotations

import statistics
from dataclasses import asdict, dataclass
from typing import Any, Literal

from vclimb.pipeline.stream.choose import Choice

LOSS_THAT_COUNTS = 0.05
"""Share below which two figures count as equal, because other programs use the machine too."""


@dataclass(frozen=True)
class BenchRound:
    """Clips a second of a decoder, the model, and both together, measured in turn.

    Attributes:
        decoder_clips_per_second: Rate of the stream alone, whose batches arrive on the device and are dropped.
        model_clips_per_second: Rate of training on one repeated batch on the device.
        fed_clips_per_second: Rate of training on the stream's batches.
    """

    decoder_clips_per_second: float
    model_clips_per_second: float
    fed_clips_per_second: float


@dataclass(frozen=True)
class BenchFigures:
    """Rounds of one decoder, and their medians."""

    rounds: tuple[BenchRound, ...]

    @property
    def decoder_clips_per_second(self) -> float:
        return statistics.median(run.decoder_clips_per_second for run in self.rounds)

    @property
    def model_clips_per_second(self) -> float:
        return statistics.median(run.model_clips_per_second for run in self.rounds)

    @property
    def fed_clips_per_second(self) -> float:
        return statistics.median(run.fed_clips_per_second for run in self.rounds)

    @property
    def fed_per_model(self) -> float:
        """Median over rounds of the fed rate divided by the model's rate: 1 where data costs no time."""
        return statistics.median(run.fed_clips_per_second / run.model_clips_per_second for run in self.rounds)

    @property
    def slower_alone(self) -> Literal["decoder", "model"]:
        """The slower of decoder and model, each measured alone."""
        return "decoder" if self.decoder_clips_per_second < self.model_clips_per_second else "model"

    @property
    def binds(self) -> Literal["data", "model"]:
        """What limits training: the model, unless decoding is slower alone or slows down the model."""
        return "data" if self.slower_alone == "decoder" or self.fed_per_model < 1 - LOSS_THAT_COUNTS else "model"

    def to_json(self) -> dict[str, Any]:
        """The medians, the conclusions and the rounds as JSON values."""
        return {
            "decoder_clips_per_second": self.decoder_clips_per_second,
            "model_clips_per_second": self.model_clips_per_second,
            "fed_clips_per_second": self.fed_clips_per_second,
            "fed_per_model": self.fed_per_model,
            "slower_alone": self.slower_alone,
            "binds": self.binds,
            "rounds": [asdict(run) for run in self.rounds],
        }


@dataclass(frozen=True)
class BenchReport:
    """Result of a call of `vclimb.bench`.

    Attributes:
        dataset: Name of the data set.
        codec: Codec of the stored frames.
        n_instances: Number of instances in the data set.
        device: Name of the GPU, or `cpu`.
        n_cores: Number of cores that this process may use.
        model: Name of the network, and of the backbone where it takes one.
        batch_clips: Number of clips in a batch.
        clip_frames: Number of frames in a clip.
        size_pixels: Side of the square frames in pixels.
        figure_seconds: Least time for each figure in seconds.
        results: Figures by decoder.
        failed: Error messages by decoder.
        skipped: Reasons, by decoder, why this machine or data set excludes it.
        auto: Decoder that `auto` chooses for this data set on this device.
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
    results: dict[str, BenchFigures]
    failed: dict[str, str]
    skipped: dict[str, str]
    auto: Choice

    @property
    def fastest(self) -> str | None:
        """The decoder with the fastest training: that of `auto`, unless another is faster by more than chance."""
        shares = {decoder: figures.fed_per_model for decoder, figures in self.results.items()}
        best = max(shares, key=lambda decoder: shares[decoder], default=None)
        auto = self.auto.decoder
        return auto if best and shares.get(auto, 0) > shares[best] * (1 - LOSS_THAT_COUNTS) else best

    @property
    def model_spread(self) -> float:
        """Rate of the model's fastest round divided by that of the slowest: 1 on an otherwise idle machine."""
        rates = [run.model_clips_per_second for figures in self.results.values() for run in figures.rounds]
        return max(rates) / min(rates) if rates else 1.0

    def to_json(self) -> dict[str, Any]:
        """All fields and conclusions as JSON values."""
        results = {decoder: figures.to_json() for decoder, figures in self.results.items()}
        return {**asdict(self), "results": results, "fastest": self.fastest, "model_spread": self.model_spread}
