"""Whether data or model limits training on this machine: each decoder alone, the model alone, and both together.

The model alone trains on one batch that stays on the device. The three figures of a decoder are measured in turn, in
several rounds, so that a machine that slows down meanwhile changes all of them; medians are compared.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from itertools import count, repeat
from pathlib import Path

import torch

from vclimb.benchmark.report import BenchFigures, BenchReport, BenchRound
from vclimb.benchmark.throughput import BenchTrainer, endless, synchronise, take, timed, train_on
from vclimb.model.kernels.fuse import missing_for_kernels
from vclimb.model.registry import make_network
from vclimb.model.settings import TIMM_NETWORKS, ModelConfig
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.cache_settings import CacheSettings
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError, VclimbError
from vclimb.pipeline.stream.batches import StreamSettings
from vclimb.pipeline.stream.choose import DECODERS, choose_decoder, open_stream
from vclimb.pipeline.stream.clip_batch import ClipBatch
from vclimb.pipeline.stream.clip_stream import ClipStream
from vclimb.pipeline.system.cores import available_cores
from vclimb.pipeline.system.progress import progress_bar

DEVICES = ("auto", "cuda", "cpu")
GPU_BATCH_CLIPS = 64
_ROUNDS = 3
_EPOCH_BATCHES = 200  # the instances of a small data set are repeated, so that few epochs end while time is taken

OnFigure = Callable[[str, int, int], None]
"""Called with the name of the next figure, the number of figures measured, and the number of all figures."""


@dataclass(frozen=True)
class BenchSettings:
    """The arguments of `bench`."""

    clip_frames: int
    size: int
    batch_size: int | None
    network: str
    backbone: str
    decoders: tuple[str, ...]
    workers: int | None
    seconds: float
    device: str

    def __post_init__(self) -> None:
        if not 0 < self.seconds <= 3600:
            raise SettingsError(f"seconds {self.seconds:g} is out of range; allowed: above 0, up to 3600")
        if self.workers is not None and self.workers < 0:
            raise SettingsError(f"workers {self.workers} is out of range; allowed: 0 or more")
        if self.device not in DEVICES:
            raise SettingsError(f"device {self.device!r} is not known; allowed: {', '.join(DEVICES)}")
        if unknown := set(self.decoders) - set(DECODERS):
            raise SettingsError(f"decoder {sorted(unknown)[0]!r} is not known; allowed: {', '.join(DECODERS)}")

    @property
    def model_name(self) -> str:
        return f"{self.network} ({self.backbone})" if self.network in TIMM_NETWORKS else self.network

    @property
    def gulp_batches(self) -> int:
        """Number of batches to take from a stream at a time: more than it holds decoded ahead."""
        return max(8, 4 + (available_cores() if self.workers is None else self.workers))

    def find_device(self) -> torch.device:
        has_gpu = torch.cuda.is_available()
        if self.device == "cuda" and not has_gpu:
            raise SettingsError("device cuda: torch sees no GPU on this machine; use cpu, or auto")
        return torch.device("cuda" if has_gpu and self.device != "cpu" else "cpu")

    def stream_settings(self, device: torch.device, shard_group: int = 0) -> StreamSettings:
        """Settings of the streams of all decoders: TSN's training clips in full batches."""
        batch_size = self.batch_size
        if batch_size is None:
            batch_size = GPU_BATCH_CLIPS if device.type == "cuda" else max(2, available_cores())
        augmentation = Augmentation(self.size)
        return StreamSettings(
            batch_size, (View(n_frames=self.clip_frames),), augmentation, shard_group=shard_group, drop_last=True
        )


def bench(
    data: StoredDataset | Path | str,
    *,
    clip_frames: int = 8,
    size: int = 224,
    batch_size: int | None = None,
    network: str = "tsn",
    backbone: str = "resnet34.tv_in1k",
    decoders: Sequence[str] = ("auto",),
    workers: int | None = None,
    seconds: float = 5.0,
    device: str = "auto",
    progress: bool | None = None,
) -> BenchReport:
    """Measure each decoder, the model, and training fed by each decoder, in clips a second.

    Nothing is written or downloaded. A decoder that fails is listed with its error, and the others are measured.

    Args:
        data: Prepared data set, or its folder or URL.
        clip_frames: Number of frames in a clip, T.
        size: Side of the square frames in pixels.
        batch_size: Number of clips in a batch. None: 64 on a GPU, else one for each core and at least 2.
        network: Network by its name (`vclimb.list_networks()`), or a class as `package.module:Class`. Its weights are
            random.
        backbone: Name of a timm model, for the networks `tsn`, `tsm` and `tcn`; others ignore it.
        decoders: `cpu`, `dali`, or `auto` for all decoders that this machine and data set allow.
        workers: Number of worker processes, or of DALI's threads. None: as many as training uses.
        seconds: Time for each figure in seconds, spread over three rounds of at least one step.
        device: `cuda`, `cpu`, or `auto` for a GPU where there is one.
        progress: Whether to show a progress bar on stderr. None: where stderr is a terminal or in Jupyter.

    Raises:
        DatasetError: There is no data set, or no clip decodes.
        SettingsError: A setting is out of range, a decoder or device is not available, or the model can't be made or
            doesn't train on such batches.
    """
    settings = BenchSettings(
        clip_frames, size, batch_size, network, backbone, tuple(decoders), workers, seconds, device
    )
    with progress_bar("figures", progress) as bar:
        task = bar.add_task("opening", total=None, note="")
        dataset = data if isinstance(data, StoredDataset) else StoredDataset.open(data)
        return measure(
            dataset.cached(CacheSettings.default(), dataset.shard_group),
            settings,
            lambda figure, done, total: bar.update(task, description=figure, completed=done, total=total),
        )


def measure(dataset: StoredDataset, settings: BenchSettings, on_figure: OnFigure) -> BenchReport:
    """Measure as `bench` does, and report each figure before it is measured."""
    device = settings.find_device()
    clips = settings.stream_settings(device, dataset.shard_group)
    codec = dataset.settings.codec
    decoders, skipped = usable_decoders(settings.decoders, codec, device)
    copies = -(-_EPOCH_BATCHES * clips.batch_size // max(1, len(dataset.instances)))
    provider = InstanceProvider(dataset, [*dataset.instances] * copies)

    with open_stream(provider, codec, replace(clips, on_bad_frame="skip"), device, "cpu", 0)[0] as stream:
        batch = next(iter(stream))
    trainer = _make_trainer(settings, len(dataset.classes), batch, device)
    results: dict[str, BenchFigures] = {}
    failed: dict[str, str] = {}
    for number, decoder in enumerate(decoders):
        parts = count(3 * _ROUNDS * number)

        def begin(figure: str, decoder: str = decoder, parts: Iterator[int] = parts) -> None:
            on_figure(f"{decoder}: {figure}", next(parts), 3 * _ROUNDS * len(decoders))

        try:
            with open_stream(provider, codec, clips, device, decoder, settings.workers)[0] as stream:
                results[decoder] = _measure_decoder(stream, trainer, batch, settings, begin)
        except Exception as error:  # any error is shown, and the other decoders are measured
            failed[decoder] = _explained(error, clips.batch_size)
    return BenchReport(
        dataset=dataset.name,
        codec=codec,
        n_instances=len(dataset.instances),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        n_cores=available_cores(),
        model=settings.model_name,
        batch_clips=clips.batch_size,
        clip_frames=settings.clip_frames,
        size_pixels=settings.size,
        figure_seconds=settings.seconds,
        results=results,
        failed=failed,
        skipped=skipped,
        auto=choose_decoder("auto", codec, device),
    )


def usable_decoders(requested: tuple[str, ...], codec: str, device: torch.device) -> tuple[list[str], dict[str, str]]:
    """List the decoders to measure, and those that `auto` leaves out, with the reason; named ones must work."""
    for decoder in requested:
        choose_decoder(decoder, codec, device)
    usable: list[str] = []
    skipped: dict[str, str] = {}
    for decoder in DECODERS:
        if decoder == "auto" or not {"auto", decoder} & set(requested):
            continue
        try:
            usable.append(choose_decoder(decoder, codec, device).decoder)
        except SettingsError as error:
            skipped[decoder] = str(error)
    return usable, skipped


def rate(step: Callable[[], int], seconds: float, device: torch.device) -> float:
    """Measure clips a second of a step, which returns its number of clips, repeated until the seconds are over."""

    def repeat_step() -> int:
        end = time.perf_counter() + seconds
        clips = step()
        while time.perf_counter() < end:
            clips += step()
        return clips

    return timed(repeat_step, device)


def _make_trainer(settings: BenchSettings, n_classes: int, batch: ClipBatch, device: torch.device) -> BenchTrainer:
    """Make the model, and train one step on a batch."""
    config = ModelConfig(
        network=settings.network,
        backbone=settings.backbone,
        weights="none",
        clip_frames=settings.clip_frames,
        size=settings.size,
    )
    model = make_network(config, n_classes)
    try:
        on_gpu = device.type == "cuda"
        trainer = BenchTrainer(model, device, graphs=on_gpu, fused=on_gpu and missing_for_kernels(device) is None)
        train_on(trainer, repeat(batch), 1)
        synchronise(device)
    except (RuntimeError, ValueError, AssertionError) as error:  # errors of networks that don't take such frames
        raise SettingsError(
            f"network {settings.model_name} does not train on {tuple(batch.frames.shape)} frames (clips, frames, "
            f"channels, pixels): {_explained(error, len(batch.keys))}; another --size, --batch-size or network may do"
        ) from None
    return trainer


def _measure_decoder(
    stream: ClipStream, trainer: BenchTrainer, batch: ClipBatch, settings: BenchSettings, begin: Callable[[str], None]
) -> BenchFigures:
    """Measure rounds of the model alone, the stream alone, and both.

    While the model trains alone, the stream decodes ahead as many batches as it holds. These are dropped before the
    stream is measured; then nothing is ahead when training begins, as in the middle of an epoch.
    """
    seconds, device = settings.seconds / _ROUNDS, trainer.device
    batches = endless(stream)
    train_model = partial(train_on, trainer, repeat(batch), 1)
    take_batches = partial(take, batches, settings.gulp_batches)
    train_fed = partial(train_on, trainer, batches, 1)
    rounds = []
    for number in range(_ROUNDS):
        begin("model alone")
        if number == 0:  # an idle GPU takes a moment to reach its clock
            take_batches()
            rate(train_model, seconds / 2, device)
        model_rate = rate(train_model, seconds, device)
        begin("data alone")
        take_batches()
        stream_rate = rate(take_batches, seconds, device)
        begin("training fed")
        rounds.append(BenchRound(stream_rate, model_rate, rate(train_fed, seconds, device)))
    return BenchFigures(tuple(rounds))


def _explained(error: Exception, batch_clips: int) -> str:
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return f"a batch of {batch_clips} clips doesn't fit in the GPU's memory; take a smaller --batch-size"
    text = str(error) if isinstance(error, VclimbError) else f"{type(error).__name__}: {error}"
    return textwrap.shorten(text, 400)
