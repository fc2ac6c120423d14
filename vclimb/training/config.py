"""The settings of a run: what `config.toml` in its folder holds, and what `--set key=value` changes.

Defaults are those of the benchmark on UCF101 (Villa et al., CVPR 2022, section 5 and its code).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import tomli_w

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.settings import MemorySettings
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sizes import parse_size
from vclimb.settings import Table, from_table, merged, parse_assignment, to_table

Protocol = Literal["paper", "released"]


@dataclass(frozen=True)
class ScenarioConfig:
    """Which classes come when: a file, or dealt out from the data set (one of the two).

    Attributes:
        file: a scenario as JSON, or a task file (pickle) of the benchmark.
        untrimmed: of an ActivityNet pickle: whole videos rather than segments.
        tasks: so many tasks, in equal parts.
        base: so many classes first, then `step` at a time.
        step: see `base`.
        seed: of the order of classes.
        split: `own` (the data set's) or `group` (a new one that parts no source).
        test_share: of a group split.
        allow_missing: train without videos that the data set lacks.
    """

    file: str | None = None
    untrimmed: bool = False
    tasks: int | None = None
    base: int | None = None
    step: int | None = None
    seed: int = 0
    split: Literal["own", "group"] = "own"
    test_share: float = 0.3
    allow_missing: bool = False


@dataclass(frozen=True)
class ModelConfig:
    """The network and what it sees.

    Attributes:
        backbone: any timm model with a pooled feature.
        weights: `pretrained` (timm's, from its hub), `none`, or a file.
        dropout: on the averaged feature.
        shift: temporal shift, for ResNets.
        clip_frames: T, frames of a clip.
        size: pixels, the side of the square that the network sees.
    """

    backbone: str = "resnet34.tv_in1k"
    weights: str = "pretrained"
    dropout: float = 0.5
    shift: bool = False
    clip_frames: int = 8
    size: int = 224

    def __post_init__(self) -> None:
        _in_range("model.dropout", self.dropout, 0, 0.999)
        _in_range("model.clip_frames", self.clip_frames, 1, 1024)
        _in_range("model.size", self.size, 8, 1024)


@dataclass(frozen=True)
class MemoryConfig:
    """The replay memory; methods that replay nothing leave it empty.

    Attributes:
        budget: `2020v`, `16160f`, `64MB`, `none` or `all`.
        frames: K frames of a video, or `all`.
        frame_choice: which frames.
        video_choice: which videos of a class; `auto`: the method's own (iCaRL: herding), else random.
        codec: how exemplars are encoded.
        rebalance: classes that can't use their share give it to others.
        cache: of exemplars decoded ahead, on the disk for temporary files, where a codec is slow to decode.
    """

    budget: str = "none"
    frames: int | Literal["all"] = 8
    frame_choice: str = "uniform"
    video_choice: str = "auto"
    codec: str = "copy"
    rebalance: bool = False
    cache: str = "8GB"

    def __post_init__(self) -> None:
        parse_size(self.cache)
        self.settings("random", 0)  # says what is wrong now, rather than after the first task

    @property
    def parsed_budget(self) -> MemoryBudget:
        return MemoryBudget.parse(self.budget)

    def settings(self, own_choice: str, seed: int) -> MemorySettings:
        """As the memory takes them.

        Args:
            own_choice: the method's own choice of videos.
        """
        return MemorySettings(
            budget=self.parsed_budget,
            frames=self.frames,
            frame_choice=self.frame_choice,
            video_choice=own_choice if self.video_choice == "auto" else self.video_choice,
            codec=self.codec,
            rebalance=self.rebalance,
            seed=seed,
        )


@dataclass(frozen=True)
class ConsistencyConfig:
    """Temporal consistency.

    Attributes:
        weight: lambda, from 0 (off) to 1.
        frames: K that the down-sampled clip is seen through; None: the memory's K, or 8 where it keeps all.
    """

    weight: float = 0.0
    frames: int | None = None

    def __post_init__(self) -> None:
        _in_range("consistency.weight", self.weight, 0, 1)
        if self.frames is not None:
            _in_range("consistency.frames", self.frames, 1, 1024)


@dataclass(frozen=True)
class TrainingConfig:
    """How the network is trained in each task.

    Attributes:
        epochs: of each task.
        first_epochs: of the first task; None: as many.
        batch_size: clips of a batch, over all processes.
        optimizer: a new one in each task.
        learning_rate: to begin with.
        schedule: of the learning rate within a task: constant, or a cosine to 0.
        momentum: of SGD.
        weight_decay: of both.
        clip_norm: gradients of a larger norm are scaled down to it; 0: never.
        select: `last`: the last epoch's model; `best`: of the epoch that is best on the validation split, which must
            not be the one reported; `best-reported`: on the reported split, as the released code does where a data
            set has no other.
    """

    epochs: int = 50
    first_epochs: int | None = None
    batch_size: int = 50
    optimizer: Literal["sgd", "adagrad", "adamw"] = "sgd"
    learning_rate: float = 1e-3
    schedule: Literal["constant", "cosine"] = "constant"
    momentum: float = 0.9
    weight_decay: float = 1e-4
    clip_norm: float = 20.0
    select: Literal["last", "best", "best-reported"] = "last"

    def __post_init__(self) -> None:
        _in_range("training.epochs", self.epochs, 1, 100_000)
        if self.first_epochs is not None:
            _in_range("training.first_epochs", self.first_epochs, 1, 100_000)
        _in_range("training.batch_size", self.batch_size, 1, 100_000)
        _in_range("training.learning_rate", self.learning_rate, 1e-12, 1e6)
        _in_range("training.momentum", self.momentum, 0, 0.99999)
        _in_range("training.weight_decay", self.weight_decay, 0, 1e6)
        _in_range("training.clip_norm", self.clip_norm, 0, 1e9)

    def epochs_of(self, task: int) -> int:
        """Epochs of a task, numbered from 0."""
        return self.first_epochs if task == 0 and self.first_epochs is not None else self.epochs


@dataclass(frozen=True)
class ComputeConfig:
    """Where and how it is computed. Changes no result beyond rounding.

    Attributes:
        device: `auto`: a GPU if there is one.
        precision: `auto`: bf16 on a GPU, else fp32.
        compile: let torch compile the backbone.
        decoder: as `vclimb bench` measures them.
        workers: processes that decode; None: as many as there are cores.
        eval_batch_size: clips of a batch in evaluation; None: as many as the network sees in a step of training.
        checkpoint_seconds: at least this long between two checkpoints within a task.
        forward_transfer: measure it: a pass over each task's clips before it is learned.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    decoder: Literal["auto", "dali", "cpu"] = "auto"
    workers: int | None = None
    eval_batch_size: int | None = None
    checkpoint_seconds: float = 300.0
    forward_transfer: bool = False

    def __post_init__(self) -> None:
        if self.workers is not None:
            _in_range("compute.workers", self.workers, 0, 1024)
        if self.eval_batch_size is not None:
            _in_range("compute.eval_batch_size", self.eval_batch_size, 1, 100_000)
        _in_range("compute.checkpoint_seconds", self.checkpoint_seconds, 0, 1e9)


@dataclass(frozen=True)
class LogConfig:
    """Where figures go besides the run folder.

    Attributes:
        tensorboard: write `tensorboard/` in the run folder.
        wandb: project of Weights & Biases; needs the extra of that name.
    """

    tensorboard: bool = False
    wandb: str | None = None


@dataclass(frozen=True)
class RunConfig:
    """All settings of a run.

    Attributes:
        data: a prepared data set.
        method: `name`, and the method's own settings.
        protocol: `paper`: as the papers have it; `released`: as the benchmark's code does.
        seed: of everything that draws.
    """

    data: str
    method: dict[str, Any] = field(default_factory=lambda: {"name": "naive"})
    protocol: Protocol = "paper"
    seed: int = 0
    scenario: ScenarioConfig = field(default_factory=ScenarioConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    memory: MemoryConfig = field(default_factory=MemoryConfig)
    consistency: ConsistencyConfig = field(default_factory=ConsistencyConfig)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    compute: ComputeConfig = field(default_factory=ComputeConfig)
    log: LogConfig = field(default_factory=LogConfig)

    def __post_init__(self) -> None:
        from vclimb.methods.registry import parse_method  # methods are given a run's settings: it imports this

        parse_method(self.method)  # an unknown method or setting of it is said now

    @property
    def consistency_frames(self) -> int:
        """K of the down-sampled clip."""
        of_memory = self.memory.frames if isinstance(self.memory.frames, int) else 8
        return self.consistency.frames or of_memory

    def to_table(self) -> Table:
        """As nested tables of plain values."""
        return to_table(self)

    def to_toml(self) -> str:
        """As the text of `config.toml`; `read_config` reads it back to an equal value."""
        return tomli_w.dumps(self.to_table())


def make_config(*tables: Mapping[str, Any], assignments: tuple[str, ...] = ()) -> RunConfig:
    """A run's settings from tables laid over one another, and assignments (`training.epochs=30`) on top.

    Raises:
        SettingsError: a name is unknown, or a value out of range.
    """
    table = merged(*tables, *(parse_assignment(text) for text in assignments))
    if isinstance(table.get("method"), str):  # method = "icarl" is short for a table with its name
        table["method"] = {"name": table["method"]}
    if isinstance(table.get("method"), Mapping):
        table["method"] = {"name": "naive", **table["method"]}
    if "data" not in table:
        raise SettingsError("no data set was given; name a prepared one, such as shards/NAME")
    return from_table(RunConfig, table)


def read_table(path: Path | str) -> Table:
    """The settings in a TOML file.

    Raises:
        SettingsError: it can't be read, or isn't TOML.
    """
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except OSError as error:
        raise SettingsError(f"settings {str(path)!r} can't be read: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise SettingsError(f"settings {str(path)!r} are not TOML: {error}") from None


def read_config(path: Path | str) -> RunConfig:
    """The settings of a run from its `config.toml`."""
    return make_config(read_table(path))


def _in_range(name: str, value: float, low: float, high: float) -> None:
    if not low <= value <= high:
        raise SettingsError(f"setting {name!r} is {value:g}, out of range; allowed: {low:g} to {high:g}")
