"""Settings of the training within a task, and the learning rate that they give at each step. Loads no torch."""

from __future__ import annotations

import math
from typing import Literal, Self

from pydantic import Field, model_validator

from vclimb.model.settings import parse_frozen
from vclimb.pipeline.clips.augment import Colours
from vclimb.pipeline.errors import SettingsError
from vclimb.settings import Settings

_FIRST_SHARE = 0.01  # of the learning rate, at the first step of a warm-up


class TrainingConfig(Settings):
    """Training within each task.

    Attributes:
        epochs: Number of epochs of a task; 0 where the method doesn't train the network on it.
        first_epochs: Number of epochs of the first task; None: `epochs`.
        batch_size: Number of clips in a batch, summed over ranks.
        optimizer: Optimiser; each task begins with a new one.
        learning_rate: Learning rate at the beginning of a task, or after its warm-up.
        backbone_rate: Learning rate of the backbone, as a factor of that of the head.
        warmup_epochs: Number of epochs at the beginning of each task in which the learning rate rises from 1 % to its
            full value, in proportion to the steps.
        schedule: Learning rate within a task, after the warm-up: constant, or a cosine down to 0.
        momentum: Momentum of SGD.
        weight_decay: Weight decay of every optimiser.
        clip_norm: Largest norm of the gradient; a larger one is scaled down to it. 0: no limit.
        shard_group: Number of shards whose clips are shuffled together, before those of the next ones; 0: all clips of
            a task are shuffled together. None: 0 on a file system, 8 in a bucket, whose shards are copied in turn.
        frozen: Parts of the backbone that keep their values, in evaluation mode: `none`, `all`, `batch-norm` (all its
            batch normalisation), `later-batch-norm` (all but the first, the "partial" one of TSN), or `stages:3` (the
            stem and the first 3 stages). Two are joined by a plus: `stages:3+batch-norm`.
        augmentation: Change of colours and shapes of training clips besides crops and flips: `none`, `colour` (jitter
            of brightness, contrast and saturation), or `strong` (jitter, grey, rotation, shear, and an erased box).
        label_smoothing: Share of the label that the cross-entropy spreads over all classes.
        select: Model kept at the end of a task. `last`: the last epoch's. `best`: that of the best epoch on a
            validation split, which must not be the reported split. `best-reported`: that of the best epoch on the
            reported split, as the released code does for data sets without another.
        select_every: Number of epochs between two that are measured to select the best one; the last one always is.
    """

    epochs: int = Field(default=50, ge=0, le=100_000)
    first_epochs: int | None = Field(default=None, ge=1, le=100_000)
    batch_size: int = Field(default=50, ge=1, le=100_000)
    optimizer: Literal["sgd", "adagrad", "adamw"] = "sgd"
    learning_rate: float = Field(default=1e-3, ge=1e-12, le=1e6)
    backbone_rate: float = Field(default=1.0, ge=1e-6, le=1e6)
    warmup_epochs: float = Field(default=0.0, ge=0, le=100_000)
    schedule: Literal["constant", "cosine"] = "constant"
    momentum: float = Field(default=0.9, ge=0, le=0.99999)
    weight_decay: float = Field(default=1e-4, ge=0, le=1e6)
    clip_norm: float = Field(default=20.0, ge=0, le=1e9)
    shard_group: int | None = Field(default=None, ge=0, le=1_000_000)
    frozen: str = "none"
    augmentation: Colours = "none"
    label_smoothing: float = Field(default=0.0, ge=0, lt=1)
    select: Literal["last", "best", "best-reported"] = "last"
    select_every: int = Field(default=1, ge=1, le=100_000)

    @model_validator(mode="after")
    def _check(self) -> Self:
        parse_frozen(self.frozen)
        shortest = min(filter(None, (self.epochs, self.first_epochs)), default=0)
        if self.warmup_epochs and self.warmup_epochs >= shortest:
            raise SettingsError(
                f"training.warmup_epochs {self.warmup_epochs:g} leaves nothing of a task of {shortest} epochs; "
                f"allowed: less than {shortest}"
            )
        return self

    def measures(self, epoch: int, task: int) -> bool:
        """Whether an epoch of a task, from 0, is measured to select the best one."""
        return self.select != "last" and ((epoch + 1) % self.select_every == 0 or epoch + 1 == self.epochs_of(task))

    def epochs_of(self, task: int) -> int:
        """Number of epochs of a task; the first task is 0."""
        return self.first_epochs if task == 0 and self.first_epochs is not None else self.epochs

    def rate(self, progress: float, n_epochs: int) -> float:
        """Compute the learning rate of the head.

        Args:
            progress: Progress of the task's training, from 0 to 1.
            n_epochs: Number of epochs of the task.
        """
        warmup = self.warmup_epochs / n_epochs
        if progress < warmup:
            return self.learning_rate * (_FIRST_SHARE + (1 - _FIRST_SHARE) * progress / warmup)
        if self.schedule == "cosine":
            return self.learning_rate * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2
        return self.learning_rate
