"""Joint training on the data of all tasks so far: the upper bound."""

from __future__ import annotations

from vclimb.methods.finetune import Finetune
from vclimb.methods.method import MethodConfig


class JointConfig(MethodConfig):
    """Settings of joint training.

    Attributes:
        restart: train anew in each task, so that Acc after task i is that of ordinary training on tasks 1 to i; else
            go on with the model of the task before.
    """

    restart: bool = True


class Joint(Finetune):
    """Ordinary training, on all that has arrived."""

    name = "joint"
    Config = JointConfig
    all_data = True

    @property
    def restarts(self) -> bool:  # type: ignore[override]
        return bool(self.config.restart)
