"""Keys: safe as names in a tar, never shared, and independent of the other videos."""

from __future__ import annotations

import os
from collections.abc import Sequence

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from vclimb.pipeline.sources.keys import MAX_KEY_BYTES, is_key, key_of_path, keys_of_paths, make_key, twin_key

relaxed = settings(deadline=None, max_examples=60)

# Any text, also with half surrogates as in undecodable file names, and names of confusing parts.
names = st.text(st.characters(), max_size=120) | st.text("ab-./_~!\0\n\\ é漢\udcff", max_size=120)
plain_part = st.from_regex(r"[A-Za-z0-9_=+@,][A-Za-z0-9_=+@,-]{0,20}", fullmatch=True)
plain_names = st.lists(plain_part, min_size=1, max_size=4).map("/".join)


@relaxed
@given(names)
@example("")
@example("/")
@example("//a")
@example("..")
@example("../../etc/passwd")
@example("-rf/--x")
@example(":_-*_/0")
@example("\ud800")
@example("漢" * 200)
def test_a_key_is_safe(name: str) -> None:
    key = make_key(name)
    assert key.isascii()
    assert 0 < len(key) <= MAX_KEY_BYTES
    assert not set(key) & set(".\\ \0\n!*?\"'$")
    for part in key.split("/"):
        assert part, f"{key!r} has an empty component"
        assert not part.startswith("-")
    assert is_key(key)


@relaxed
@given(names, names)
@example("a b", "a_b")
@example("a b", "a.b")
@example("é", "\udcc3\udca9")
@example("a//b", "a/b")
@example("x" * 91, "x" * 92)
def test_different_names_have_different_keys(first: str, second: str) -> None:
    assume(first != second)
    assert make_key(first) != make_key(second)


@relaxed
@given(names)
def test_a_name_spelled_like_a_key_gets_another_key(name: str) -> None:
    key = make_key(name)
    assert key == name or make_key(key) != key


@relaxed
@given(plain_names)
def test_a_valid_name_is_its_own_key(name: str) -> None:
    assume(len(name) <= MAX_KEY_BYTES)
    assert make_key(name) == name


def test_the_key_of_a_name_never_changes() -> None:
    assert make_key("walk/A b.c") == "walk/A_b_c~98f9858427079fe2"
    assert make_key("v_Surfing_g01_c01") == "v_Surfing_g01_c01"


@pytest.mark.parametrize("text", ["", "/a", "a/", "a//b", "a.b", "-a", "a/-b", "a b", "é", "~", "a~b", "x" * 91])
def test_invalid_keys(text: str) -> None:
    assert not is_key(text)


path_parts = st.text("ab.", min_size=1, max_size=3)
paths = st.builds("{}/{}{}".format, path_parts, path_parts, st.sampled_from([".avi", ".mp4", ".MP4", ".mp4.avi"]))


def keyed(listed: Sequence[str], taken: Sequence[str] = ()) -> dict[str, str]:
    return dict(zip(listed, keys_of_paths(listed, taken), strict=True))


@relaxed
@given(st.lists(paths, max_size=12, unique=True), st.lists(plain_names, max_size=4))
def test_paths_get_unique_keys_whatever_their_order(listed: list[str], taken: list[str]) -> None:
    keys = keyed(listed, taken)
    assert len(set(keys.values())) == len(keys)
    assert not set(keys.values()) & set(taken)
    assert keys == keyed(listed[::-1], taken)


@relaxed
@given(st.lists(paths, min_size=1, max_size=12, unique_by=key_of_path), st.lists(paths, max_size=12, unique=True))
def test_adding_videos_without_twins_renames_none(before: list[str], added: list[str]) -> None:
    stems = {key_of_path(path) for path in before}
    more = [path for path in added if key_of_path(path) not in stems]
    assert keyed(before).items() <= keyed(before + more).items()


def test_the_first_of_twins_has_a_key_without_suffix() -> None:
    keys = keyed(["walk/a.mp4", "walk/a.avi", "walk/a.mp4.avi", "walk/b.avi"])
    assert keys["walk/a.avi"] == "walk/a"
    assert keys["walk/b.avi"] == "walk/b"
    assert keys["walk/a.mp4"] == twin_key("walk/a.mp4") != keys["walk/a.mp4.avi"] == make_key("walk/a.mp4")


def test_a_name_of_bytes_that_are_no_text_has_a_key() -> None:
    assert make_key(os.fsdecode(b"walk/\xff")) != make_key(os.fsdecode(b"walk/\xfe"))
