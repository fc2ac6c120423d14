"""The settings of a run: what `config.toml` in its folder holds, and what `--set key=value` changes.

Defaults are those of the benchmark on UCF101 (Villa et al., CVPR 2022, section 5 and its code).
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import tomli_w
from pydantic import Field, model_validator

from vclimb.memory.choice.budget import MemoryBudget, Remainder
from vclimb.memory.settings import AUTO, PILOT, MemorySettings
from vclimb.methods.registry import METHODS, parse_method
from vclimb.model.settings import ModelConfig
from vclimb.pipeline.dataset.cache_settings import DEFAULT_CACHE_BYTES, DEFAULT_GROUP
from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.sizes import parse_size
from vclimb.pipeline.system.paths import is_url
from vclimb.protocol import Differences, Protocol, make_differences
from vclimb.settings import Settings, from_table, merged, read_table
from vclimb.training.hidden_settings import HiddenSettings
from vclimb.training.schedule import TrainingConfig

SHORT_NAMES = {
    "method": "method.name",
    "tasks": "scenario.tasks",
    "split": "scenario.split",
    "budget": "memory.budget",
    "frames": "memory.frames",
    "codec": "memory.codec",
    "frame_choice": "memory.frame_choice",
    "video_choice": "memory.video_choice",
    "tc": "consistency.weight",
    "epochs": "training.epochs",
    "network": "model.network",
    "backbone": "model.backbone",
    "weights": "model.weights",
    "size": "model.size",
    "compile": "compute.compile",
    "seed": "seed",
}
"""Short name -> setting, for the flags of `vclimb train`, the arguments of `vclimb.train` and the axes of studies."""


class ScenarioConfig(Settings):
    """Order in which classes arrive: read from a file, or dealt out from the data set.

    Attributes:
        file: Scenario as JSON, or a task file (pickle) of the benchmark.
        untrimmed: Whether whole videos are used rather than segments, for ActivityNet's task files.
        tasks: Number of tasks, of equal numbers of classes.
        base: Number of classes in the first task; the others have `step`.
        step: Number of classes in each task after the first, where `base` is given.
        first_tasks: Number of tasks that are learned, from the first; the others are left out. None: all.
        seed: Seed of the order of classes.
        split: `own`: the data set's own training and test videos; `group`: a new split that keeps videos of one source
            together.
        test_share: Share of test videos in a `group` split.
        allow_missing: Whether to train without videos that the data set lacks.
    """

    file: str | None = None
    untrimmed: bool = False
    tasks: int | None = Field(default=None, ge=1)
    base: int | None = Field(default=None, ge=1)
    step: int | None = Field(default=None, ge=1)
    first_tasks: int | None = Field(default=None, ge=1)
    seed: int = 0
    split: Literal["own", "group"] = "own"
    test_share: float = Field(default=0.3, gt=0, lt=1)
    allow_missing: bool = False


class MemoryConfig(Settings):
    """Replay memory; methods that replay nothing leave it empty.

    Attributes:
        budget: `2020v` (videos), `16160f` (frames), `64MB` (bytes on disk), `none` or `all`.
        frames: Number of frames kept of each video, K, or `all`; `pilot`: a pilot after the first task chooses it.
        frame_choice: Rule that chooses the frames of a video.
        video_choice: Rule that chooses the videos of a class; `auto`: the method's (iCaRL and BiC: herding), else
            random.
        codec: Encoding of exemplars; `auto`: one that fits the data set, `copy` for JPEG and `h264:24` for H.264, or
            `features:fp16` for a method that replays features, which may be `frame-features:fp16` too; `pilot`: a pilot
            after the first task chooses it.
        rebalance: Whether classes that can't use their share of the budget give it to others; None: where the budget is
            in bytes.
        share: Part of every whole batch that is exemplars: an epoch passes once over the new clips then, and over the
            exemplars as often as it takes. None: an epoch passes once over all.
        cache: Limit of disk space for exemplars that are decoded ahead, where the codec is slow to decode.
    """

    budget: str = "none"
    frames: Annotated[int, Field(ge=1)] | Literal["all", "pilot"] = 8
    frame_choice: str = "uniform"
    video_choice: str = "auto"
    codec: str = AUTO
    rebalance: bool | None = None
    share: float | None = Field(default=None, gt=0, lt=1)
    cache: str = "8GB"

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse_size(self.cache)
        self.settings("random", 0)  # an unknown choice or codec is refused now, not after the first task
        return self

    @property
    def is_piloted(self) -> bool:
        """Whether a pilot after the first task chooses the codec or the number of frames."""
        return PILOT in (self.codec, self.frames)

    def settings(self, video_choice: str, seed: int, remainder: Remainder = "earliest-classes") -> MemorySettings:
        """Make the settings of the memory; `auto` is the rule `video_choice`, and `pilot` is codec `auto`, 1 frame."""
        table = {name: value for name, value in self if name in MemorySettings.model_fields}
        choice = video_choice if self.video_choice == "auto" else self.video_choice
        changes = {
            "codec": AUTO if self.codec == PILOT else self.codec,
            "frames": 1 if self.frames == PILOT else self.frames,
            "budget": MemoryBudget.parse(self.budget),
            "video_choice": choice,
            "seed": seed,
            "remainder": remainder,
        }
        return from_table(MemorySettings, {**table, **changes}, "memory")


class ConsistencyConfig(Settings):
    """Temporal consistency (vCLIMB, section 4).

    Attributes:
        weight: Weight of the down-sampled clip's loss, lambda, from 0 (off) to 1.
        frames: Number of frames of the down-sampled clip; `all`: another clip of the whole video; None: the memory's K,
            or where it keeps all frames 8 (`all`, as the released code computes).
    """

    weight: float = Field(default=0.0, ge=0, le=1)
    frames: Annotated[int, Field(ge=1, le=1024)] | Literal["all"] | None = None


class ComputeConfig(Settings):
    """Place and precision of the computation. Changes no result beyond rounding.

    Attributes:
        device: Device of the network; `auto`: a GPU if there is one.
        precision: Precision of the network; `auto`: bf16 on a GPU, else fp32.
        compile: Whether torch compiles the backbone.
        kernels: Kernels of batch norm and depthwise convolution: `fused` (vclimb's own, on a GPU), `torch`, or `auto`.
        graphs: Whether steps are replayed as CUDA graphs: `auto` (on a GPU, where the step can be recorded; the log
            says whether it is), `on` (a step that can't be recorded is an error), or `off`.
        decoder: Decoder of clips, as `vclimb bench` measures them.
        workers: Number of decoding processes; None: one for each core.
        cudnn_search: Number of kernels that cuDNN times for each shape of a convolution; 0: it estimates them.
        cache: Folder for copies of the shards of a data set in a bucket; None: vclimb/shards among the user's caches.
        cache_bytes: Limit of the bytes of that folder.
        eval_batch_size: Number of clips in a batch of evaluation; None: as many as in a training step.
        checkpoint_seconds: Shortest time between two checkpoints within a task, in seconds.
        forward_transfer: Whether to measure forward transfer, by a pass over each task's clips before it is learned.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    compile: bool = False
    kernels: Literal["auto", "fused", "torch"] = "auto"
    graphs: Literal["auto", "on", "off"] = "auto"
    decoder: Literal["auto", "dali", "cpu"] = "auto"
    workers: int | None = Field(default=None, ge=0, le=1024)
    cudnn_search: int = Field(default=0, ge=0, le=100)
    cache: str | None = None
    cache_bytes: int = Field(default=DEFAULT_CACHE_BYTES, ge=1, le=10**18)
    eval_batch_size: int | None = Field(default=None, ge=1, le=100_000)
    checkpoint_seconds: float = Field(default=300.0, ge=0, le=1e9)
    forward_transfer: bool = False


CHANGE_NO_NUMBER = frozenset({"workers", "cache", "cache_bytes", "checkpoint_seconds"})
"""Settings of `ComputeConfig` on which no bit of a run's results depends."""


class LogConfig(Settings):
    """Destinations of figures besides the run folder.

    Attributes:
        tensorboard: Whether to write `tensorboard/` in the run folder.
        wandb: Project of Weights & Biases; needs the extra of that name.
    """

    tensorboard: bool = False
    wandb: str | None = None


class RunConfig(Settings):
    """All settings of a run.

    Attributes:
        data: Path or URL of a prepared data set.
        method: Table of the method's `name` and its settings.
        protocol: `paper`: as the papers say; `released`: as the benchmark's released code computes.
        differences: Single settings of `vclimb.protocol.Differences` that the protocol is not followed in.
        seed: Seed of everything that draws, except the order of classes.
        scenario: Order in which classes arrive.
        model: Network and its input.
        memory: Replay memory.
        consistency: Temporal consistency.
        training: Training within each task.
        compute: Place and precision of the computation.
        log: Destinations of figures besides the run folder.
    """

    data: str
    method: dict[str, Any] = Field(default_factory=lambda: {"name": "naive"})
    protocol: Protocol = "paper"
    differences: dict[str, Any] = Field(default_factory=dict)
    seed: int = 0
    scenario: ScenarioConfig = ScenarioConfig()
    model: ModelConfig = ModelConfig()
    memory: MemoryConfig = MemoryConfig()
    consistency: ConsistencyConfig = ConsistencyConfig()
    training: TrainingConfig = TrainingConfig()
    compute: ComputeConfig = ComputeConfig()
    log: LogConfig = LogConfig()

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse_method(self.method)  # an unknown method or method setting is refused now
        self.resolved_differences  # noqa: B018  # and an unknown difference
        return self

    @property
    def resolved_differences(self) -> Differences:
        """All differences between the papers and the released code, as the run computes them."""
        return make_differences(self.protocol, self.differences)

    @property
    def least_frames(self) -> int:
        """Number of frames below which videos are left out."""
        return self.model.clip_frames if self.resolved_differences.short_videos == "left-out" else 1

    @property
    def has_down_sampled_clips(self) -> bool:
        """Whether training steps have down-sampled clips."""
        always = self.resolved_differences.second_view == "always" and METHODS.find(self.method["name"]).replays
        return self.consistency.weight > 0 or always

    @property
    def consistency_frames(self) -> int | Literal["all"]:
        """Number of frames of the down-sampled clip; `all`: it is drawn from the whole video."""
        if self.consistency.frames is not None:
            return self.consistency.frames
        if isinstance(self.memory.frames, int):
            return self.memory.frames
        return 8 if self.resolved_differences.second_view_frames == "spread" else "all"

    @property
    def shard_group(self) -> int:
        """Number of shards whose clips are shuffled together; 0: all clips of a task are."""
        if self.training.shard_group is not None:
            return self.training.shard_group
        return DEFAULT_GROUP if is_url(self.data) else 0

    def beginning(self) -> RunConfig:
        """Copy the settings as the training of the first task sees them, before anything is remembered.

        Reading a setting of the memory is an error, except those in `Method.memory_settings`. What the memory gives
        other settings is filled in.
        """
        readable = METHODS.find(self.method["name"]).memory_settings
        frames = self.consistency_frames if self.has_down_sampled_clips else None
        return self.model_copy(
            update={
                "memory": HiddenSettings("memory", {name: getattr(self.memory, name) for name in sorted(readable)}),
                "consistency": self.consistency.replaced(frames=frames),
                "training": self.training.replaced(shard_group=self.shard_group),
            }
        )

    def to_toml(self) -> str:
        """Convert to the text of `config.toml`, which `read_config` reads back to an equal value."""
        return tomli_w.dumps(self.to_table())


def make_config(*tables: Mapping[str, Any]) -> RunConfig:
    """Make the settings of a run from nested tables; later ones win. Errors are SettingsErrors."""
    table = merged(*tables)
    if isinstance(table.get("method"), str):  # method = "icarl" is short for a table with its name
        table["method"] = {"name": table["method"]}
    if isinstance(table.get("method"), Mapping):
        table["method"] = {"name": "naive", **table["method"]}
    if "data" not in table:
        raise SettingsError("no data set was given; name a prepared one, such as shards/NAME")
    return from_table(RunConfig, table)


def read_config(path: Path | str) -> RunConfig:
    """Read the settings of a run from its `config.toml`; errors are SettingsErrors."""
    return make_config(read_table(path))
