"""Fine-tuning on each task alone: the lower bound."""

from __future__ import annotations

from vclimb.methods.method import Method, StepBatch, StepOutputs, Terms


class Finetune(Method):
    """Softmax cross-entropy over all classes so far, on the current task's clips."""

    name = "finetune"

    def loss(self, batch: StepBatch, outputs: StepOutputs) -> Terms:
        return {"classification": self.classified(outputs, batch.labels)}
