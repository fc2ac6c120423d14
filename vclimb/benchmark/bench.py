"""What binds training on this machine, the data or the model: each decoder alone, the model alone, both together.

The model alone trains on one batch of the data set that stays on the device. A decoder's three figures are taken in
turn, in several rounds, so that a machine that becomes slower meanwhile changes all of them; medians are what counts.
"""

from __future__ import annotations

import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import count

import torch

from vclimb.benchmark.report import BenchReport, Figures, Round
from vclimb.benchmark.throughput import Trainer, endless, repeated, synchronise, take, timed, train_on
from vclimb.model.tsn import TSN
from vclimb.pipeline.clips.augment import Augmentation
from vclimb.pipeline.clips.provider import InstanceProvider
from vclimb.pipeline.clips.sampling import View
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import SettingsError, VclimbError
from vclimb.pipeline.stream.choose import DECODERS, choose_decoder, open_stream
from vclimb.pipeline.stream.stream import ClipBatch, ClipStream, StreamSettings
from vclimb.pipeline.system.cores import available_cores

DEVICES = ("auto", "cuda", "cpu")
GPU_BATCH_CLIPS = 64
_ROUNDS = 3
_EPOCH_BATCHES = 200  # the instances of a small data set are repeated: what an epoch's end costs isn't measured

OnFigure = Callable[[str, int, int], None]
"""Told what is measured next, how much has been, and how much there is."""


@dataclass(frozen=True)
class BenchSettings:
    """What is measured.

    Attributes:
        n_frames: T of a clip.
        size: pixels, the side of the square that the model sees.
        batch_size: clips; None: 64 on a GPU, else one for each core and at least 2.
        model: any timm backbone, with random weights.
        decoders: names of `choose.DECODERS`; `auto` stands for all that this machine and data set allow.
        workers: as `vclimb.pipeline.stream.choose.open_stream` takes it.
        seconds: that each figure is measured for, in three rounds of a step or more.
        device: `auto` (a GPU if there is one), `cuda` or `cpu`.
    """

    n_frames: int
    size: int
    batch_size: int | None
    model: str
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
    def gulp_batches(self) -> int:
        """Batches to take from a stream at a time: more than it holds decoded ahead."""
        return max(8, 4 + (available_cores() if self.workers is None else self.workers))

    def find_device(self) -> torch.device:
        """The device asked for. Raises SettingsError where it isn't there."""
        found = torch.cuda.is_available()
        if self.device == "cuda" and not found:
            raise SettingsError("device cuda: torch sees no GPU on this machine; use cpu, or auto")
        return torch.device("cuda" if found and self.device != "cpu" else "cpu")

    def stream_settings(self, device: torch.device) -> StreamSettings:
        """What every decoder yields: TSN's training clips in full batches."""
        batch_size = self.batch_size
        if batch_size is None:
            batch_size = GPU_BATCH_CLIPS if device.type == "cuda" else max(2, available_cores())
        augmentation = Augmentation(self.size)
        return StreamSettings(batch_size, (View(n_frames=self.n_frames),), augmentation, drop_last=True)


def bench(folder: str, settings: BenchSettings, on_figure: OnFigure) -> BenchReport:
    """Measure the model, and every decoder, on a prepared data set. A decoder that fails doesn't stop the others.

    Raises:
        DatasetError: there is no data set, or no clip of it decodes.
        SettingsError: the model can't be made or doesn't train on such batches, or what was asked for isn't there.
    """
    device = settings.find_device()
    clips = settings.stream_settings(device)
    dataset = StoredDataset.open(folder)
    codec = dataset.settings.codec
    decoders, skipped = usable_decoders(settings.decoders, codec, device)
    copies = -(-_EPOCH_BATCHES * clips.batch_size // max(1, len(dataset.instances)))
    provider = InstanceProvider(dataset, dataset.instances * copies)

    with open_stream(provider, codec, replace(clips, on_bad_frame="skip"), device, "cpu", 0)[0] as stream:
        batch = next(iter(stream))
    trainer = _make_trainer(settings.model, len(dataset.classes), batch, device)
    results: dict[str, Figures] = {}
    failed: dict[str, str] = {}
    for number, decoder in enumerate(decoders):
        parts = count(3 * _ROUNDS * number)

        def tell(what: str, decoder: str = decoder, parts: Iterator[int] = parts) -> None:
            on_figure(f"{decoder}: {what}", next(parts), 3 * _ROUNDS * len(decoders))

        try:
            with open_stream(provider, codec, clips, device, decoder, settings.workers)[0] as stream:
                results[decoder] = _measure(stream, trainer, batch, settings, tell)
        except Exception as error:  # whatever it is, it is shown, and the other decoders are measured
            failed[decoder] = _explained(error, clips.batch_size)
    return BenchReport(
        dataset=dataset.name,
        codec=codec,
        n_instances=len(dataset.instances),
        device=torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu",
        n_cores=available_cores(),
        model=settings.model,
        batch_clips=clips.batch_size,
        clip_frames=settings.n_frames,
        size_pixels=settings.size,
        figure_seconds=settings.seconds,
        results=results,
        failed=failed,
        skipped=skipped,
        auto=choose_decoder("auto", codec, device),
    )


def usable_decoders(asked: tuple[str, ...], codec: str, device: torch.device) -> tuple[list[str], dict[str, str]]:
    """The decoders to measure, and those that `auto` leaves out and why.

    Raises:
        SettingsError: one that was asked for by name can't be used.
    """
    for decoder in asked:
        choose_decoder(decoder, codec, device)
    usable: list[str] = []
    skipped: dict[str, str] = {}
    for decoder in DECODERS:
        if decoder == "auto" or not {"auto", decoder} & set(asked):
            continue
        try:
            usable.append(choose_decoder(decoder, codec, device).decoder)
        except SettingsError as error:
            skipped[decoder] = str(error)
    return usable, skipped


def rate(step: Callable[[], int], seconds: float, device: torch.device) -> float:
    """Clips a second of a step, which returns its clips, done again and again until the seconds are over."""

    def repeat() -> int:
        end = time.perf_counter() + seconds
        clips = step()
        while time.perf_counter() < end:
            clips += step()
        return clips

    return timed(repeat, device)


def _make_trainer(backbone: str, n_classes: int, batch: ClipBatch, device: torch.device) -> Trainer:
    """The model, after its first step on such a batch."""
    model = TSN(n_classes, backbone)
    try:
        trainer = Trainer(model, device)
        train_on(trainer, repeated(batch), 1)
        synchronise(device)
    except (RuntimeError, ValueError, AssertionError) as error:  # what backbones say to frames that they don't take
        raise SettingsError(
            f"model {backbone!r} does not train on {tuple(batch.frames.shape)} frames (clips, frames, channels, "
            f"pixels): {_explained(error, len(batch.keys))}; another --size, --batch-size or --model may do"
        ) from None
    return trainer


def _measure(
    stream: ClipStream, trainer: Trainer, batch: ClipBatch, settings: BenchSettings, tell: Callable[[str], None]
) -> Figures:
    """Rounds of the model alone, the stream alone, and both.

    While the model trains alone, the stream stands still and has decoded ahead what it holds. That is taken from it
    before it is measured; then it has nothing ahead when training on it begins, as in the middle of an epoch.
    """
    seconds, device = settings.seconds / _ROUNDS, trainer.device
    batches = endless(stream)
    of_model = partial(train_on, trainer, repeated(batch), 1)
    of_stream = partial(take, batches, settings.gulp_batches)
    of_both = partial(train_on, trainer, batches, 1)
    rounds = []
    for number in range(_ROUNDS):
        tell("model alone")
        if number == 0:  # a GPU that had nothing to do takes a moment to reach its clock
            of_stream()
            rate(of_model, seconds / 2, device)
        model_rate = rate(of_model, seconds, device)
        tell("data alone")
        of_stream()
        stream_rate = rate(of_stream, seconds, device)
        tell("training fed")
        rounds.append(Round(stream_rate, model_rate, rate(of_both, seconds, device)))
    return Figures(tuple(rounds))


def _explained(error: Exception, batch_clips: int) -> str:
    """An error as one line."""
    if isinstance(error, torch.cuda.OutOfMemoryError):
        return f"a batch of {batch_clips} clips doesn't fit in the GPU's memory; take a smaller --batch-size"
    text = str(error) if isinstance(error, VclimbError) else f"{type(error).__name__}: {error}"
    return textwrap.shorten(text, 400)
