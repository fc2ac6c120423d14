"""Damaged, foreign and hostile files of an unfinished run: one line that says what to remove, which then works."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from dataset_cases import InlineExecutor, digests, is_clean, make_source, prepare_table, shard_files
from sealed_cases import edit_plan, edit_sealed

from vclimb.pipeline.dataset.catalog import ShardRecord
from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import DatasetError, SettingsError, TargetError
from vclimb.pipeline.sources import read_source
from vclimb.pipeline.transcode.assembly import RECORDS
from vclimb.pipeline.transcode.executors.executor import OnVideo
from vclimb.pipeline.transcode.plan import PLAN
from vclimb.pipeline.transcode.target import WORK

SHARD_BYTES = 12_000


class Killed(BaseException):
    """Stands for SIGKILL: no code of ours runs after it."""


class StopsAfter(InlineExecutor):
    """Publishes some shards, makes parts of the next, and is killed."""

    def __init__(self, shards: int) -> None:
        super().__init__()
        self.shards = shards

    def run(self, jobs: Any, on_video: OnVideo) -> Iterator[ShardRecord]:
        yield from super().run(jobs[: self.shards], on_video)
        raise Killed


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source = make_source(tmp_path_factory.mktemp("raw") / "source", classes=3, videos_per_class=2)
    (source / "class0" / "bad.mp4").write_text("no video")
    return source


@pytest.fixture(scope="module")
def undisturbed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    out = tmp_path_factory.mktemp("undisturbed") / "data"
    prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    assert len(StoredDataset.open(out).catalog.shards) == 3
    return digests(out)


@pytest.fixture(scope="module")
def killed(source: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data set whose first run was killed when two of three shards were published."""
    out = tmp_path_factory.mktemp("killed") / "data"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("vclimb.pipeline.transcode.prepare.Catalog.write", lambda catalog, folder: None)
        with pytest.raises(Killed):
            prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES, executor=StopsAfter(2))
    assert {path.name for path in (out / WORK / RECORDS).iterdir()} == {"000000.json", "000001.json"}
    assert not (out / "dataset.json").exists()
    return out


@pytest.fixture
def out(killed: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(killed, tmp_path / "data"))


def files_of_run(out: Path) -> list[Path]:
    return [out / WORK / PLAN, *sorted((out / WORK / RECORDS).iterdir())]


def mutated(data: bytes, dice: random.Random) -> bytes:
    at = dice.randrange(len(data))
    end = at + dice.randrange(1, 40)
    return dice.choice(
        [
            data[:at],
            data[:at] + bytes([data[at] ^ (1 << dice.randrange(8))]) + data[at + 1 :],
            data[:at] + data[end:],
            data[:at] + dice.randbytes(end - at) + data[end:],
            data[:at] + data[:end] + data[at:],
            b"",
            b"[" * 100_000,
        ]
    )


def test_any_change_is_refused_and_the_file_to_remove_is_named(source: Path, out: Path) -> None:
    table, dice = read_source(source), random.Random(3)
    for file in files_of_run(out):
        good = file.read_bytes()
        for _ in range(40):
            damaged = mutated(good, dice)
            if damaged == good:
                continue
            file.write_bytes(damaged)
            with pytest.raises(DatasetError) as caught:
                prepare_table(table, out, shard_bytes=SHARD_BYTES)
            assert str(caught.value).startswith(f"{file} is damaged: ")
            assert "; remove it and run the same command again: " in str(caught.value)
        file.write_bytes(good)


@pytest.mark.parametrize("name", [PLAN, f"{RECORDS}/000000.json", f"{RECORDS}/000001.json"])
def test_what_the_message_advises_works(source: Path, out: Path, undisturbed: dict[str, str], name: str) -> None:
    before = shard_files(out)
    file = out / WORK / name
    file.write_bytes(file.read_bytes()[:-9])
    with pytest.raises(DatasetError, match="remove it and run the same command again"):
        prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    file.unlink()
    summary = prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    assert (summary.prepared, summary.totals["videos"]) == (6, 6)
    again = {f"data-{file.stem}.{suffix}" for suffix in ("tar", "idx", "frames.npy")} if name != PLAN else set()
    after = shard_files(out)
    assert {name for name in before if before[name] != after[name]} == again
    assert digests(out) == undisturbed
    assert is_clean(out)


def test_shards_that_the_catalog_lists_are_not_made_again_without_their_record(
    source: Path, tmp_path: Path, undisturbed: dict[str, str]
) -> None:
    """A run that ended with an error has written its catalog, so a damaged record costs nothing."""
    out = tmp_path / "data"
    with pytest.raises(Killed):
        prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES, executor=StopsAfter(2))
    before = shard_files(out)
    (out / WORK / RECORDS / "000000.json").unlink()
    prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    after = shard_files(out)
    assert {name: after[name] for name in before} == before
    assert digests(out) == undisturbed


def test_a_plan_that_is_gone_leaves_the_settings(source: Path, out: Path) -> None:
    (out / WORK / PLAN).unlink()
    for _ in range(2):
        with pytest.raises(SettingsError, match="was prepared with other settings"):
            prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES, short_side=64)


def test_a_published_shard_that_was_removed_is_made_again(source: Path, out: Path, undisturbed: dict[str, str]) -> None:
    (out / WORK / PLAN).unlink()
    (out / "data-000001.tar").unlink()
    prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    assert digests(out) == undisturbed


def first_video(plan: Any) -> Any:
    return plan["shards"][0]["videos"][0]


HOSTILE_PLANS: dict[str, Callable[[Any], Any]] = {
    **{
        f"name {name!r:.24}": lambda plan, name=name: plan.update(name=name)
        for name in ("../escaped", "/tmp/escaped", "a/b", "a\\b", "..", ".", "", "a\0b", ".hidden", "x" * 300, None, 7)
    },
    "rate 0": lambda plan: first_video(plan)["probe"].update(rate="0"),
    "rate of a thousand digits": lambda plan: first_video(plan)["probe"].update(rate="1e999999999"),
    "no packets": lambda plan: first_video(plan)["probe"].update(n_packets=0),
    "endless": lambda plan: first_video(plan)["probe"].update(duration_seconds=float("nan")),
    "no width": lambda plan: first_video(plan)["probe"].update(display_width=0),
    "key": lambda plan: first_video(plan)["video"].update(key="../../x"),
    "split": lambda plan: first_video(plan)["video"]["instances"][0].update(split="dev"),
    "class": lambda plan: first_video(plan)["video"]["instances"][0].update(label=None),
    "twice": lambda plan: plan["shards"].append(plan["shards"][0]),
    **{
        f"{what} twice": lambda plan, what=what: plan["shards"][-1]["videos"][-1]["video"].update(
            {what: first_video(plan)["video"][what]}
        )
        for what in ("key", "path")
    },
    "number": lambda plan: plan["shards"][0].update(number=-1),
    "no videos": lambda plan: plan["shards"][0].update(videos=[]),
    "settings": lambda plan: plan["settings"].update(quality=1000),
    "a list": lambda plan: plan.update(shards={"0": 1}),
}


@pytest.mark.parametrize("change", HOSTILE_PLANS.values(), ids=HOSTILE_PLANS.keys())
def test_hostile_plans_are_refused_before_anything_is_written(
    source: Path, out: Path, change: Callable[[Any], None]
) -> None:
    edit_plan(out / WORK / PLAN, change)
    before = digests(out.parent)
    with pytest.raises(DatasetError, match=rf"{PLAN} is damaged: .*; remove it and run the same command again"):
        prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    assert digests(out.parent) == before


@pytest.mark.parametrize("path", ["/etc/passwd", "../secret.mp4", "class0/../../secret.mp4"])
def test_a_plan_reads_no_file_that_the_source_does_not_list(source: Path, out: Path, path: str) -> None:
    edit_plan(out / WORK / PLAN, lambda plan: first_video(plan)["video"].update(path=path))
    with pytest.raises(DatasetError, match=r"is outside of .* and not listed by the source; remove the plan"):
        prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)


HOSTILE_RECORDS: dict[str, Callable[[Any], Any]] = {
    "another number": lambda content: content["record"].update(number=1),
    "a number that is not planned": lambda content: content["record"].update(number=77),
    "a tar outside": lambda content: content["record"]["files"].update(tar="../data-000000.tar"),
    "another tar": lambda content: content["record"]["files"].update(tar="other-000000.tar"),
    "a digest": lambda content: content["record"]["files"].update(tar_sha256="x"),
    "a rate": lambda content: content["record"]["videos"][0].update(fps_fraction="0"),
    "a place": lambda content: content["record"]["videos"][1].update(offset=0),
    "another size": lambda content: content["record"]["videos"][0].update(bytes=10**6),
    "another class": lambda content: content["record"]["instances"][0].update(label="other"),
    "frames after the end": lambda content: content["record"]["instances"][0].update(end_frame=10**6),
    "no files": lambda content: content["record"].update(files=None),
    "a shard": lambda content: content["record"]["videos"][0].update(shard=2**31),
    "half a character": lambda content: content["record"]["videos"][0].update(source="\ud800"),
    "another video": lambda content: content["record"]["videos"][0].update(key="class2/v00"),
}


@pytest.mark.parametrize("change", HOSTILE_RECORDS.values(), ids=HOSTILE_RECORDS.keys())
def test_hostile_records_are_refused(source: Path, out: Path, change: Callable[[Any], None]) -> None:
    file = out / WORK / RECORDS / "000000.json"
    edit_sealed(file, change)
    before = digests(out.parent)
    with pytest.raises(DatasetError, match=r"000000.json is .*; remove it and run the same command again"):
        prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    assert {**digests(out.parent), **before} == digests(out.parent)


def test_parts_that_were_changed_are_made_again(
    source: Path, out: Path, undisturbed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A part of an unfinished shard, in each of its three files."""
    for suffix in ("json", "frames.npy", "mp4"):
        with monkeypatch.context() as patch:
            patch.setattr("vclimb.pipeline.transcode.assembly.ShardAssembly.append_parts", _killed)
            with pytest.raises(Killed):
                prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
        part = out / WORK / "000002" / f"000000.{suffix}"
        data = part.read_bytes()
        part.write_bytes(data.replace(b'"width": 64', b'"width": 46') if suffix == "json" else data[:-1] + b"?")
        assert part.read_bytes() != data
    prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    assert digests(out) == undisturbed


def _killed(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("name", [WORK, f"{WORK}/{RECORDS}", f"{WORK}/drafts-x", f"{WORK}/000002", f"{WORK}/x/y"])
def test_links_where_files_are_removed_are_refused(source: Path, tmp_path: Path, out: Path, name: str) -> None:
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "drafts-mine").mkdir(parents=True)
    (elsewhere / "drafts-mine" / "thesis.txt").write_text("years of work")
    (elsewhere / PLAN).write_text("of something else")
    shutil.rmtree(out / name, ignore_errors=True)
    (out / name).parent.mkdir(exist_ok=True)
    (out / name).symlink_to(elsewhere)
    before = digests(elsewhere)
    with pytest.raises(TargetError, match=rf"{name} is a symbolic link to '{elsewhere}'; .*; remove the link"):
        prepare_table(read_source(source), out, shard_bytes=SHARD_BYTES)
    assert digests(elsewhere) == before


def test_no_draft_is_written_where_a_link_leads(source: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine.txt"
    mine.write_text("mine")
    for name in ("videos.parquet", "dataset.json", "errors.jsonl"):
        out = tmp_path / name / "data"
        out.mkdir(parents=True)
        (out / WORK).mkdir()
        (out / f".{name}.new").symlink_to(mine)
        with pytest.raises(TargetError, match=f"can't write to {out}: Too many levels of symbolic links"):
            prepare_table(replace(read_source(source), videos=read_source(source).videos[:1]), out)
        assert mine.read_text() == "mine"


def test_a_data_set_may_be_reached_by_a_link(source: Path, tmp_path: Path, undisturbed: dict[str, str]) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "data").symlink_to("disk")
    prepare_table(read_source(source), tmp_path / "data", shard_bytes=SHARD_BYTES)
    assert digests(tmp_path / "disk") == undisturbed
