"""`--only i/n` of `vclimb study run`: which runs a part has, and what is refused. test_study_run.py computes parts."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

import pytest

from vclimb.pipeline.errors import SettingsError, TargetBusyError
from vclimb.study.folder import StudyFolder
from vclimb.study.parts import Part


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("0/4", "only '0/4': there is no part 0; allowed: 1/4 to 4/4"),
        ("5/4", "only '5/4': there is no part 5; allowed: 1/4 to 4/4"),
        ("1/0", "only '1/0' has no parts; allowed: n of 1 or more in i/n"),
        ("", "only '' is no part of a study; write i/n, such as 1/4"),
        ("-1/4", "only '-1/4' is no part of a study"),
        ("2", "only '2' is no part of a study"),
    ],
)
def test_a_part_that_does_not_exist_is_refused(text: str, reason: str) -> None:
    with pytest.raises(SettingsError) as refused:
        Part.parse(text)
    assert str(refused.value).startswith(reason)


def test_parts_take_each_cell_once() -> None:
    cells = list(range(10))
    parts = [Part.parse(f"{number}/4").of(cells) for number in range(1, 5)]
    assert sorted(cell for part in parts for cell in part) == cells
    assert {len(part) for part in parts} == {2, 3}
    assert Part.parse("12/12").of(cells) == []


def test_processes_that_could_share_a_run_are_refused(tmp_path: Path) -> None:
    folder, runs = StudyFolder(tmp_path / "study"), ("a", "b")
    with ExitStack() as held:
        held.enter_context(folder.held(Part(1, 2), runs))
        held.enter_context(folder.held(Part(2, 2), runs))
        for part, study_runs, reason in (
            (Part(1, 2), runs, "part 1/2 of the study is running in"),
            (Part(1, 3), runs, "part 1/2 of a study is running in"),
            (Part(1, 2), ("a", "c"), "part 1/2 of a study is running in"),
            (None, runs, "another study is running in"),
        ):
            with pytest.raises(TargetBusyError, match=reason), folder.held(part, study_runs):
                pass
    with folder.held(), pytest.raises(TargetBusyError, match="another study is"), folder.held(Part(1, 2), runs):
        pass
    with folder.held(Part(1, 3), ("a", "c")):
        pass
