"""Sealed JSON: what was changed is refused, in each file that vclimb alone writes and reads back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import pytest
from study_cases import BASE, cells, made_metrics, write_run

from vclimb.pipeline.system.sealed_json import parse_object, sealed, unsealed
from vclimb.study.folder import StudyFolder
from vclimb.study.stored import StudyError
from vclimb.training.run_metrics import RunMetrics

CONTENT: dict[str, Any] = {"b": [1, 2.5, None, True], "a": {"é": "\ud800", "x": "y"}}


def test_seal_is_the_digest_of_the_canonical_rest() -> None:
    document = sealed(CONTENT)
    canonical = b'{"a": {"x": "y", "\\u00e9": "\\ud800"}, "b": [1, 2.5, null, true]}'
    assert list(document) == ["b", "a", "sha256"]
    assert document["sha256"] == hashlib.sha256(canonical).hexdigest()


@pytest.mark.parametrize("write", [partial(json.dumps, indent=3), partial(json.dumps, sort_keys=True)])
def test_white_space_and_the_order_of_keys_do_not_count(write: Callable[[Any], str]) -> None:
    assert unsealed(parse_object(write(sealed(CONTENT)).encode())) == CONTENT


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "not JSON"),
        (b"[1]", "not a JSON object"),
        (b"\xff", "not JSON"),
        ('{"a": 1}'.encode("utf-16"), "not JSON"),
        (b'{"a": NaN, "sha256": ""}', "NaN is no number"),
        (b'{"a": -Infinity}', "-Infinity is no number"),
        (b'{"a": ' + b"1" * 5000 + b"}", "not JSON"),
        (b'{"a":' * 100_000, "nested too deeply"),
        (b'{"a":' * 500 + b"1" + b"}" * 500, "no field sha256"),
        (b'{"a": 1}', "no field sha256"),
        (b'{"a": 1, "sha256": null}', "doesn't have the SHA-256"),
        (b'{"a": 1, "sha256": {}}', "doesn't have the SHA-256"),
        (json.dumps({**sealed({"a": 1}), "a": True}).encode(), "doesn't have the SHA-256"),
        (json.dumps({**sealed({"a": 1}), "a": 1.0}).encode(), "doesn't have the SHA-256"),
        (json.dumps({**sealed({"a": 1}), "b": 1}).encode(), "doesn't have the SHA-256"),
    ],
)
def test_other_texts_are_named(text: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says) as raised:
        unsealed(parse_object(text))
    assert len(str(raised.value)) < 200


def with_other_digits(text: str, steps: Sequence[int]) -> Iterator[str]:
    """Change each digit of a text, one at a time, by each of some steps from 1 to 9."""
    for place, digit in enumerate(text):
        if digit in "0123456789":
            yield from (f"{text[:place]}{(int(digit) + step) % 10}{text[place + 1 :]}" for step in steps)


def parse(text: str) -> dict[str, Any]:
    return unsealed(parse_object(text.encode()))


def is_refused(read: Callable[[], object], sound: object, *says: str) -> bool:
    """Whether reading is refused in the words given; what is read otherwise must be as it was."""
    try:
        found = read()
    except ValueError as error:
        return all(words in str(error) for words in says)
    assert found == sound
    return False


def failures_of(folder: StudyFolder) -> object:
    (failure,) = folder.failures().values()
    if "is damaged: " in failure.error:
        raise StudyError(failure.error)
    return failure


def data_of(folder: StudyFolder) -> object:
    folder.check_data("x", "0123456789abcdef" * 4)
    return None


READERS: dict[str, Callable[[StudyFolder], object]] = {
    "runs/run/metrics.json": lambda folder: RunMetrics.load(folder.run("run") / "metrics.json"),
    "cells.json": lambda folder: folder.cells(),
    "data.json": data_of,
    "failures/0123456789ab.json": failures_of,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> StudyFolder:
    """A small study with a file of each kind."""
    folder = StudyFolder(tmp_path_factory.mktemp("sealed") / "study")
    (cell,) = cells({"base": BASE, "axes": {"seed": [17]}})
    with folder.held():
        folder.keep_data("x", "0123456789abcdef" * 4)
        folder.write_study("", {cell.run_id: cell.settings})
        folder.record_failure("0123456789ab", "no memory: 3.5 GB", 1, {"seed": 3})
        write_run(folder.run("run"), cell, made_metrics(cell, ["class 1", "class 2"], n_tasks=2, n_learned=1))
    return folder


@pytest.mark.parametrize("file", READERS)
def test_no_changed_digit_goes_unnoticed(study: StudyFolder, file: str) -> None:
    path, read = study.path / file, READERS[file]
    text, sound = path.read_text("utf-8"), read(study)
    content = parse(text)
    changes = list(with_other_digits(text, range(1, 10)))
    refused = [is_refused(partial(parse, changed), content) for changed in changes]
    assert len(changes) > 500
    assert sum(refused) > 0.99 * len(refused)  # the others are last digits that make no difference to a float

    refused = []
    for changed in with_other_digits(text, [7]):
        path.write_text(changed, "utf-8")
        refused.append(is_refused(partial(read, study), sound, str(path)))
    path.write_text(text, "utf-8")
    assert sum(refused) > 0.99 * len(refused)
