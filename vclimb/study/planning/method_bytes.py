"""What each method would keep between tasks besides exemplars, in bytes by part; nothing is trained."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.memory.sample import CLASS_BYTES, EXEMPLAR_BYTES, ROOT_BYTES
from vclimb.memory.store.index_nodes import INDEX
from vclimb.methods.method import TaskInfo
from vclimb.methods.registry import METHODS
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.settings import Table, flat, merged
from vclimb.study.axes import parse_axes, parse_settings
from vclimb.study.naming import label, size_label
from vclimb.training.config import RunConfig, make_config
from vclimb.training.ledger import kept_bytes
from vclimb.training.run import make_method

_TASKS = 10  # where the settings name no number of tasks


@dataclass(frozen=True)
class MethodBytes:
    """Bytes that a method keeps after the last task besides exemplars.

    Attributes:
        name: Method, and the settings that were given for it.
        settings: Settings of the method.
        network: Network whose sizes count.
        classes: Number of classes of all tasks.
        tasks: Number of tasks.
        replays: Whether the method keeps exemplars too.
        parts: Part -> bytes on disk: `statistics`, `parameters` or `logits`, and the `index`.
        bytes: Sum of the parts: the whole memory but for exemplars.
        fits: Whether the budget holds it, with one exemplar where the method replays; None for a budget in videos or
            frames.
        left: Bytes that a budget in bytes leaves for exemplars; None where the method keeps none, nothing fits, or the
            budget isn't in bytes.
    """

    name: str
    settings: Table
    network: str
    classes: int
    tasks: int
    replays: bool
    parts: Mapping[str, int]
    bytes: int
    fits: bool | None
    left: int | None

    @property
    def in_words(self) -> dict[str, str]:
        """Bytes in words: of each part, of all together, and what is left for exemplars."""
        left = "keeps none" if not self.replays else "-" if self.left is None else size_label(self.left)
        return {
            **{part: size_label(n_bytes) for part, n_bytes in self.parts.items()},
            "together": size_label(self.bytes),
            "left for exemplars": "doesn't fit" if self.fits is False else left,
        }

    def to_json(self) -> dict[str, Any]:
        """Convert to plain values."""
        return asdict(self)


def method_bytes(
    data: str | Path | StoredDataset,
    budget: str | MemoryBudget,
    *,
    methods: str | Sequence[str | Mapping[str, Any]] | None = None,
    settings: Mapping[str, Any] | Sequence[str] | None = None,
) -> list[MethodBytes]:
    """Count what methods keep after the last task besides exemplars. Nothing is trained.

    Statistics, parameters and logits have sizes that follow from the network and the number of classes.

    Args:
        data: Prepared data set, whose classes are learned: a path, a URL, or an open data set.
        budget: `64MB` (bytes on disk), `2020v` (videos) or `16160f` (frames).
        methods: Methods to count, as names or as tables with settings, such as `["ewc", {"name": "analytic", "head":
            "ridge"}]` or `'ewc,{name="analytic", head="ridge"}'`; None: all methods that keep something besides
            exemplars, with each head where there are several.
        settings: Settings of a run that the sizes depend on, such as `{"model.backbone": "resnet18.tv_in1k"}` or
            `["scenario.tasks=5"]`.

    Raises:
        SettingsError: A method or a setting is not known.
        DatasetError: The data set can't be read.
    """
    limit = budget if isinstance(budget, MemoryBudget) else MemoryBudget.parse(budget)
    dataset = data if isinstance(data, StoredDataset) else StoredDataset.open(data)
    tables = list(_all_methods()) if methods is None else _tables(methods)
    given = {"data": str(dataset.storage)}, parse_settings(settings)
    n_classes = len(dataset.classes)
    counted = [_count(make_config(*given, {"method": table}), table, n_classes, limit) for table in tables]
    return [one for one in counted if methods is not None or set(one.parts) > {INDEX}]


def _all_methods() -> Iterator[Table]:
    for name in METHODS.listings():
        field = METHODS.find(name).Config.model_fields.get("head")
        heads = get_args(field.annotation) if field else ()
        yield from ({"name": name, "head": head} for head in heads)
        if not heads:
            yield {"name": name}


def _tables(methods: str | Sequence[str | Mapping[str, Any]]) -> list[Table]:
    listed = parse_axes([f"method={methods}"])["method.name"] if isinstance(methods, str) else methods
    return [merged({"name": one} if isinstance(one, str) else one) for one in listed]


def _count(config: RunConfig, table: Table, n_classes: int, budget: MemoryBudget) -> MethodBytes:
    method = make_method(config)
    n_tasks = min(config.scenario.tasks or _TASKS, n_classes)
    classes_per_task = tuple(len(part) for part in np.array_split(np.arange(n_classes), n_tasks))
    task = TaskInfo(n_tasks - 1, classes_per_task)
    parts = kept_bytes(method, task, config.model, config.training.frozen)
    total = ROOT_BYTES + sum(parts.values())
    is_limit = budget.kind == "bytes"
    fits = total + method.replays * (CLASS_BYTES + EXEMPLAR_BYTES) <= budget.amount if is_limit else None
    named = flat({"method": table})
    return MethodBytes(
        name=label(named, list(named)),
        settings=dict(config.method),
        network=f"{config.model.network} of {config.model.backbone}",
        classes=n_classes,
        tasks=n_tasks,
        replays=method.replays,
        parts={**parts, INDEX: ROOT_BYTES + parts.get(INDEX, 0)},
        bytes=total,
        fits=fits,
        left=budget.amount - total if fits and method.replays else None,
    )
