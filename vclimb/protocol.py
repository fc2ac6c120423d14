"""What the benchmark's released code computes otherwise than the papers, one setting for each difference.

A run's key `protocol` chooses the words of all settings at once: `paper` the first of each, `released` the second. The
table `[differences]` of a run's settings chooses single ones, so that a study can vary them one by one:

    vclimb train ... --set protocol=released --set differences.segments=exact
    vclimb study ... --axis differences.second_view=with-consistency,always

`RunConfig.resolved_differences` holds the result. Each setting is read in one place, where the two ways are chosen
between; the released way is a function or class named `released_...`. To add a difference, add a field here with the
papers' word first, and a row to the table in docs/training.md.

Importing this module loads no torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, get_args, get_type_hints

from vclimb.memory.choice.budget import Remainder
from vclimb.settings import Settings, from_table

Protocol = Literal["paper", "released"]


class Differences(Settings):
    """Settings of what the papers and the released code compute differently. The papers' words come first.

    Attributes:
        second_view: Steps that pass the down-sampled clips through the network: those `with-consistency` alone, or
            `always`, which without temporal consistency changes batch statistics and nothing else.
        second_view_batch_norm: Batch statistics of clips and down-sampled clips: `joined` in one batch, or those of
            `separate` passes.
        second_view_frames: Frames of the down-sampled clips: `spread` over the video, as a memory keeps them, or the
            `first`, with blank clips for exemplars and short videos (a second draw from the whole video where the
            memory keeps all frames).
        second_view_crop: Crop, flip and draws of frames of the down-sampled clips: `shared` with the clips, or their
            `own`.
        last_batch: Last batch of an epoch, where it is smaller than the others: `kept` or `dropped`.
        segments: Segments of training clips: `exact`, or of `whole-frames`, so that the remainder is never shown.
        short_videos: Videos of fewer frames than a clip has: `kept`, or `left-out` of training, memory and evaluation.
        distillation_targets: Outputs of the old model that iCaRL and BiC distil from: those for the clips of
            `each-step`, or those for one training clip of each item, computed `before-task`.
        best_epoch: Epoch that training.select best and best-reported take: the `first` of equally good ones by the
            accuracy over all clips, or the `last` by the mean over tasks, weighted by their classes.
        autocast: Type of training in mixed precision on a GPU: `bf16`, or `fp16-unscaled`, without loss scaling, so
            that small gradients vanish.
        inference_precision: Precision of evaluation, features and targets: `as-training`, or `fp32`.
        icarl_classification: Classification loss of iCaRL: `sigmoids` of the new classes, or a `softmax` over all.
        herding: Herding of iCaRL and BiC: that of iCaRL's `algorithm-4`, or by means that are divided by the norm of
            their `whole-matrix`.
        memory_remainder: Part of a budget that can't be shared out evenly: for the `earliest-classes`, or `unused`.
        lwf_classification: Classes of LwF's softmax: the `new-classes`, or `all-classes`.
        lwf_distillation: Distillation of LwF: `trained`, or `logged` without a gradient.
        anchored_labels: Labels of EWC and MAS: of `all-classes`, or `from-0` within each task.
        importance: Importances of EWC and MAS: from the gradients of `samples`, or of whole `batches`.
        mas_anchors: Anchors of MAS: importances `summed` over tasks around the newest parameters, or those of
            `each-task` around the parameters after it.
        bic_logits: Logits that BiC's losses are computed on: `raw`, so that earlier tasks' corrections are learned and
            end; or `corrected` by those of all tasks, which are kept.
        bic_hold_out: Hold-out of BiC: `balanced` over classes, or the `last` samples of each class.
        bic_fit: Fit of BiC's correction: the `minimum`, or some `steps` of SGD.
    """

    second_view: Literal["with-consistency", "always"] = "with-consistency"
    second_view_batch_norm: Literal["joined", "separate"] = "joined"
    second_view_frames: Literal["spread", "first"] = "spread"
    second_view_crop: Literal["shared", "own"] = "shared"
    last_batch: Literal["kept", "dropped"] = "kept"
    segments: Literal["exact", "whole-frames"] = "exact"
    short_videos: Literal["kept", "left-out"] = "kept"
    distillation_targets: Literal["each-step", "before-task"] = "each-step"
    best_epoch: Literal["first", "last"] = "first"
    autocast: Literal["bf16", "fp16-unscaled"] = "bf16"
    inference_precision: Literal["as-training", "fp32"] = "as-training"
    icarl_classification: Literal["sigmoids", "softmax"] = "sigmoids"
    herding: Literal["algorithm-4", "whole-matrix"] = "algorithm-4"
    memory_remainder: Remainder = "earliest-classes"
    lwf_classification: Literal["new-classes", "all-classes"] = "new-classes"
    lwf_distillation: Literal["trained", "logged"] = "trained"
    anchored_labels: Literal["all-classes", "from-0"] = "all-classes"
    importance: Literal["samples", "batches"] = "samples"
    mas_anchors: Literal["summed", "each-task"] = "summed"
    bic_logits: Literal["raw", "corrected"] = "raw"
    bic_hold_out: Literal["balanced", "last"] = "balanced"
    bic_fit: Literal["minimum", "steps"] = "minimum"


PAPER = Differences()
RELEASED = Differences(
    **{
        name: get_args(hint)[1]
        for name, hint in get_type_hints(Differences).items()
        if name in Differences.model_fields
    }
)


def make_differences(protocol: Protocol, table: Mapping[str, Any]) -> Differences:
    """Choose all differences by a protocol, and single ones by a table.

    Raises:
        SettingsError: a difference or its word is not known.
    """
    return from_table(Differences, {**dict(PAPER if protocol == "paper" else RELEASED), **table}, "differences")
