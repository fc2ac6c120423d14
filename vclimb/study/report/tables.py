"""Write results as tables: a row for each run, as parquet and csv."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from vclimb.memory.store.index_nodes import INDEX, PARTS
from vclimb.pipeline.system.durable import replace_file
from vclimb.pipeline.system.folders import writable
from vclimb.settings import changes_no_result
from vclimb.study.report.results import RunResult, StudyResults
from vclimb.training.run_metrics import MemoryFacts

_AVERAGE = "average_incremental_accuracy"
_NUMBERS = ("acc", "bwf", _AVERAGE, "acc_by_class", "bwf_by_class", f"{_AVERAGE}_by_class", "forward_transfer")
_MEMORY_NUMBERS = tuple(field.name for field in fields(MemoryFacts) if field.name != "parts")
_SERIES = ("acc_after_each_task", "bwf_after_each_task")
PARQUET, CSV = "results.parquet", "results.csv"


def rows_of(results: StudyResults) -> list[dict[str, Any]]:
    """Make a row for each run, failed runs included. Fractions are from 0 to 1; None: not measured."""
    names = sorted({name for run in results.runs for name in run.settings if not changes_no_result(name)})
    rows = [_row(run, names, results) for run in results.runs]
    known = {run.run_id for run in results.runs} | results.damaged.keys()
    empty = dict.fromkeys(rows[0]) if rows else {"run": None, "state": None, "error": None}
    rows += [
        {**empty, "run": run_id, "state": "failed", "error": failure.error}
        for run_id, failure in results.failures.items()
        if run_id not in known
    ]
    rows += [{**empty, "run": run_id, "state": "damaged", "error": error} for run_id, error in results.damaged.items()]
    return rows


def write_tables(results: StudyResults, folder: Path) -> None:
    """Write `results.parquet` and `results.csv`.

    Raises:
        TargetError: The tables can't be written.
    """
    rows = rows_of(results)
    with writable(folder):
        replace_file(folder / PARQUET, _parquet(rows))
        replace_file(folder / CSV, _csv(rows).encode())


def _row(run: RunResult, names: Sequence[str], results: StudyResults) -> dict[str, Any]:
    failure = results.failures.get(run.run_id)
    state = "complete" if run.is_complete else "failed" if failure else "unfinished"
    metrics = run.metrics
    return {
        "run": run.run_id,
        "state": state,
        "error": failure.error if failure else None,
        # As texts, so that a column has one type: K may be a number or `all`.
        **{
            name: v if v is None or name == "seed" else f"{v:g}" if isinstance(v, float) else str(v)
            for name in names
            for v in [run.settings.get(name)]
        },
        "scenario": metrics and (metrics.scenario.name or None),
        "classifier": metrics and metrics.classifier,
        "device": metrics and metrics.device,
        "n_tasks_done": run.n_tasks_done,
        **{name: _known(run.number(name)) for name in _NUMBERS},
        **{f"memory_{name}": _known(run.memory(name)) for name in _MEMORY_NUMBERS},
        **{f"memory_{part}_bytes": run.part_bytes(part) for part in (*PARTS, INDEX)},
        "seconds": run.seconds,
        **{name: [_known(value) for value in run.series(name)] for name in _SERIES},
        "forgetting_of_each_task": [_known(value) for value in run.forgetting],
    }


def _known(value: float) -> float | None:
    return None if math.isnan(value) else value


def _parquet(rows: Sequence[dict[str, Any]]) -> bytes:
    import pyarrow as pa
    import pyarrow.parquet as pq

    numbers = {*_NUMBERS, "seconds", *(f"memory_{name}" for name in _MEMORY_NUMBERS)}
    numbers |= {f"memory_{part}_bytes" for part in (*PARTS, INDEX)}
    kinds = dict.fromkeys(numbers, pa.float64()) | dict.fromkeys(("seed", "n_tasks_done"), pa.int64())
    kinds |= dict.fromkeys((*_SERIES, "forgetting_of_each_task"), pa.list_(pa.float64()))
    schema = pa.schema([(name, kinds.get(name, pa.string())) for name in rows[0]])
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(list(rows), schema), sink)
    return sink.getvalue()


def _csv(rows: Sequence[dict[str, Any]]) -> str:
    sink = io.StringIO()
    writer = csv.DictWriter(sink, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    for row in rows:
        writer.writerow({name: json.dumps(v) if isinstance(v, list) else v for name, v in row.items()})
    return sink.getvalue()
