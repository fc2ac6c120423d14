"""Joint training on the data of all tasks so far: the upper bound.

vclimb train shards/ucf101 --out runs/joint --tasks 10 --method joint
"""

from __future__ import annotations

from vclimb.methods.method import Method, MethodConfig


class JointConfig(MethodConfig):
    """Settings of joint training.

    Attributes:
        restart: Whether each task trains a new network, so that Acc after task i is that of ordinary training on
            tasks 1 to i; otherwise training continues with the previous task's network.
    """

    restart: bool = True


class Joint(Method[JointConfig]):
    """Softmax cross-entropy over all classes so far, on the clips of all tasks so far."""

    name = "joint"
    summary = "Training on the data of all tasks so far: the upper bound."
    Config = JointConfig
    all_data = True

    @property
    def restarts(self) -> bool:  # type: ignore[override]
        return self.config.restart
