"""Names are told apart by their hashes, and by themselves where hashes are the same."""

from __future__ import annotations

import pytest

from vclimb.pipeline.system import distinct
from vclimb.pipeline.system.distinct import are_distinct


@pytest.mark.parametrize("collide", [False, True])
def test_repeats_are_found_and_nothing_else(monkeypatch: pytest.MonkeyPatch, collide: bool) -> None:
    if collide:
        monkeypatch.setattr(distinct, "hash", lambda name: len(name), raising=False)
    assert are_distinct([])
    assert are_distinct(["a", "b", "\udcff"])
    assert not are_distinct(["a", "b", "a"])
