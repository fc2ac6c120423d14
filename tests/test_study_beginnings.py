"""Runs of a study share the training of the first task: which ones, in which order, and with which results."""

from __future__ import annotations

import json
import shutil
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

from training_cases import TINY_BACKBONE, comparable, events_of, read_metrics
from typer.testing import CliRunner

import vclimb
from vclimb.cli.main import app
from vclimb.study.cells import Cell
from vclimb.study.definition import read_study
from vclimb.study.folder import StudyFolder
from vclimb.study.running.executor import RunExecutor, RunJob
from vclimb.study.running.executors.local import _next, _Slot
from vclimb.study.running.places import Places
from vclimb.study.running.sharing import runs_that_take, shared_beginnings
from vclimb.training.config import make_config
from vclimb.training.run import train

STUDY: dict[str, Any] = {
    "name": "three",
    "base": {
        "method": "naive",
        "scenario": {"base": 3, "step": 3},
        "model": {"backbone": TINY_BACKBONE, "weights": "none", "clip_frames": 2, "size": 32},
        "training": {"epochs": 1, "batch_size": 8},
        "memory": {"frames": 2},
        "compute": {"device": "cpu", "decoder": "cpu", "workers": 0},
    },
    "axes": {"budget": ["3v", "6v", "9v"]},
}


class InThisProcess(RunExecutor):
    """Computes runs by their commands in this process, which has loaded torch already."""

    def run(self, jobs: Sequence[RunJob]) -> Generator[tuple[RunJob, int], None, None]:
        for job in jobs:
            _, _, _, module, *arguments = job.command().arguments
            assert module == "vclimb.cli"
            yield job, CliRunner().invoke(app, arguments).exit_code


def uses(run: Path) -> list[str]:
    return [event["use"] for event in events_of(run) if event["event"] == "beginning"]


def test_three_runs_train_the_first_task_once(synth_shards: Path, tmp_path: Path) -> None:
    study, out = vclimb.Study(STUDY), tmp_path / "study"
    assert study.estimate(synth_shards, out, progress=False).first_tasks_taken == 2
    assert study.estimate(synth_shards, out, beginnings=False, progress=False).first_tasks_taken == 0
    result = study.run(synth_shards, out, executor=InThisProcess(), progress=False)
    assert result.is_complete
    used = {run_id: uses(out / "runs" / run_id) for run_id in result.ran}
    assert sorted(used.values()) == [["kept"], ["taken"], ["taken"]]
    (maker,) = (run_id for run_id, use in used.items() if use == ["kept"])
    # Removing a run harms no other, and the run itself takes what it left.
    before = read_metrics(out / "runs" / maker)
    shutil.rmtree(out / "runs" / maker)
    assert study.estimate(synth_shards, out, progress=False).first_tasks_taken == 1
    assert study.run(synth_shards, out, executor=InThisProcess(), progress=False).ran == (maker,)
    assert uses(out / "runs" / maker) == ["taken"]
    assert comparable(read_metrics(out / "runs" / maker)) == comparable(before)
    # A run alone has the same results.
    taker = next(run_id for run_id, use in used.items() if use == ["taken"])
    (cell,) = (cell for cell in study.cells(synth_shards) if cell.run_id == taker)
    assert comparable(train(cell.config, tmp_path / "alone")) == comparable(read_metrics(out / "runs" / taker))


def test_a_run_waits_while_another_trains_what_it_can_take(tmp_path: Path) -> None:
    folder = StudyFolder(tmp_path)
    one, two, other, single = (
        RunJob("one", folder, beginning="a"),
        RunJob("two", folder, beginning="a"),
        RunJob("other", folder, beginning="b"),
        RunJob("single", folder),
    )
    assert _next([one, two], [_Slot(None)]) == one
    assert _next([two, other, single], [_Slot(None, one), _Slot(None)]) == other
    assert _next([two, single], [_Slot(None, one), _Slot(None, other), _Slot(None)]) == single
    assert _next([two], [_Slot(None, one), _Slot(None)]) is None
    assert _next([two], [_Slot(None)]) == two  # the run that was to leave it has failed
    folder.beginnings.mkdir()
    (folder.beginnings / "a-0123.safetensors").touch()
    assert not two.waits_for([one])
    assert "--beginnings" in two.command().arguments
    assert "--beginnings" not in single.command().arguments
    (folder.beginnings / "a-0123.safetensors").unlink()
    folder.run("one").mkdir(parents=True)
    (folder.run("one") / "metrics.json").write_text(json.dumps({}))  # its first task has ended without leaving it
    assert not two.waits_for([one])


def test_cells_of_a_study_of_memories_fall_in_few_groups(tmp_path: Path) -> None:
    definition = Path(vclimb.__file__).parents[1] / "docs" / "studies" / "jhmdb21.toml"
    cells = [cell for cell in read_study(definition).expand("shards/x") if cell.config.seed == 0]
    shared = shared_beginnings(cells, Places(1))
    assert (len(cells), len(shared), len(set(shared.values()))) == (72, 72, 12)
    run_ids = [cell.run_id for cell in cells]
    assert len(runs_that_take(shared, run_ids, StudyFolder(tmp_path))) == 60
    alone = Cell("0", make_config({"data": "shards/x"}))
    assert shared_beginnings([alone], Places(1)) == {}
