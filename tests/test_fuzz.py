"""300 mutated inputs over all kinds of files that vclimb reads back: read as before, or refused in one line.

`fuzz_long.py` reads thousands more by hand.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from fuzz_cases import EQUAL, HANG, REFUSED, TRACEBACK, WRONG, Fuzzer, Kind, Outcome, contents_of, table_of_outcomes
from fuzz_long import inputs_of, make_samples

import vclimb

N_INPUTS = 300


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz") / "samples"


@pytest.fixture(scope="module")
def kinds(samples: Path) -> dict[str, Kind]:
    return {kind.name: kind for kind in make_samples(samples, with_slow=False)}


def test_mutated_files_are_read_as_before_or_refused_in_one_line(
    samples: Path, kinds: dict[str, Kind], tmp_path: Path
) -> None:
    others = contents_of(samples, [*kinds.values()])
    per_kind = Counter(name for name, _ in inputs_of([*kinds.values()], N_INPUTS, 0))
    outcomes: list[Outcome] = []
    for name, n in per_kind.items():
        fuzzer = Fuzzer(kinds[name], samples, others, tmp_path)
        outcomes += [fuzzer.run(seed) for seed in range(n)]
    assert [outcome for outcome in outcomes if outcome.is_fault] == [], table_of_outcomes(outcomes)
    assert len(outcomes) >= N_INPUTS
    counts = Counter(outcome.outcome for outcome in outcomes)
    assert counts[REFUSED] > N_INPUTS / 2
    assert counts[EQUAL] > 5


def test_sound_files_are_read(samples: Path, kinds: dict[str, Kind], tmp_path: Path) -> None:
    """A kind whose sound file is refused would test nothing. Only weights of no network as npz are."""
    refused = []
    for kind in kinds.values():
        fuzzer = Fuzzer(kind, samples, [b""], tmp_path)
        refused += [kind.name] if isinstance(fuzzer._expected, vclimb.VclimbError) else []
    assert refused == ["weights weights.npz"]


class TwoLines(vclimb.VclimbError):
    def __str__(self) -> str:
        return "two\nlines"


def _raise(error: BaseException) -> object:
    raise error


def _loop(_: Path) -> object:
    while True:
        pass


def test_faults_are_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader that believes all it reads, one that fails, one that explains too much, and one that never ends."""
    monkeypatch.setattr("fuzz_cases.LONGEST_CPU_SECONDS", 0.2)
    folder = tmp_path / "samples" / "folder"
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"sound")

    def outcome(sound: object, mutated: object) -> str:
        def read(folder: Path) -> object:
            result = sound if (folder / "file").read_bytes() == b"sound" else mutated
            return result(folder) if callable(result) else result

        kind = Kind("kind", "folder", "file", read, is_protected=True)
        return Fuzzer(kind, tmp_path / "samples", [b"other"], tmp_path).run(1).outcome

    assert outcome(1, 1) == EQUAL
    assert outcome(1, 2) == WRONG
    assert outcome(1, lambda _: _raise(KeyError("x"))) == TRACEBACK
    assert outcome(1, lambda _: _raise(MemoryError())) == TRACEBACK
    assert outcome(1, lambda _: _raise(TwoLines())) == TRACEBACK
    assert outcome(1, lambda _: _raise(vclimb.DatasetError("one line"))) == REFUSED
    assert outcome(1, _loop) == HANG
