"""Settings that must fit the data set: `auto` finds the codec, and what doesn't fit is said before torch is loaded."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from training_cases import read_metrics, tiny_config

import vclimb
from vclimb.memory.settings import MemorySettings
from vclimb.memory.store.reader import MemoryStore
from vclimb.pipeline.errors import SettingsError
from vclimb.training.config import make_config
from vclimb.training.plan import plan_run
from vclimb.training.run import train

# A line for each case: whether torch was loaded, and the error.
CHECK = """
import json, sys
import vclimb

for arguments in json.loads(sys.argv[1]):
    for call in ("train", "plan"):
        more = {"out": sys.argv[2]} if call == "train" else {}
        try:
            getattr(vclimb, call)(**arguments, **more, tasks=2)
            print("no error")
        except vclimb.VclimbError as error:
            print("torch" in sys.modules, error)
"""


def test_a_run_finds_the_codec_that_fits(synth_shards: Path, tmp_path: Path) -> None:
    h264 = tmp_path / "h264"
    vclimb.prepare(synth_shards.parent / "videos", h264, codec="h264", short_side=48, workers=2, progress=False)
    for shards, codec in ((synth_shards, "copy"), (h264, "h264:24")):
        config = tiny_config(shards, "naive", "training.epochs=1", "scenario.tasks=2")
        assert config.memory.codec == "auto"
        plan = plan_run(config)
        assert (plan.codec, plan.bytes_from.rpartition(" ")[2]) == (codec, codec)
    metrics = train(config, tmp_path / "run")
    assert metrics.codec == read_metrics(tmp_path / "run").codec == "h264:24"
    encodings = {stored.encoding for stored in MemoryStore.open(tmp_path / "run/memory.zarr").classes.values()}
    assert encodings == {"h264:24"}


def test_what_does_not_fit_is_said_before_torch_is_loaded(jpeg_folder: Path, h264_folder: Path, tmp_path: Path) -> None:
    jpeg, h264 = str(jpeg_folder), str(h264_folder)
    cases = [
        (
            {"data": h264, "budget": "9v", "codec": "copy"},
            "codec copy keeps the JPEG frames of a data set, and this one holds h264; use h264 or another codec",
        ),
        ({"data": h264, "budget": "4f"}, "budget 4f holds no video of 8 frames; allow 8f or more, or keep fewer"),
        ({"data": jpeg, "budget": "9f", "frames": 10}, "budget 9f holds no video of 10 frames; allow 10f"),
        ({"data": jpeg, "budget": "3100B"}, "budget 3100B is 3,100 bytes, and a memory of one video takes about "),
        ({"data": jpeg, "budget": "1kB", "codec": "raw"}, "(encoded as raw); allow more, such as "),
        ({"data": jpeg, "weights": "none.pt"}, "model.weights 'none.pt' is not a file; allowed: pretrained, none, or"),
        ({"data": str(tmp_path / "none"), "budget": "9v"}, "is not a prepared data set"),
        ({"data": jpeg, "budget": "9v", "codec": "jpg"}, "codec 'jpg' is not known; did you mean jpeg?"),
        ({"data": jpeg, "budget": "9v", "frames": 0}, "setting 'memory.frames' is 0"),
    ]
    arguments = json.dumps([case for case, _ in cases])
    done = subprocess.run([sys.executable, "-c", CHECK, arguments, tmp_path / "run"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    assert len(said) == 2 * len(cases)
    for line, (_, message) in zip(said, [case for case in cases for _ in range(2)], strict=True):
        assert line.startswith("False ")
        assert message in line
    assert not (tmp_path / "run").exists()


def test_the_least_budget_that_is_accepted_holds_a_video(jpeg_folder: Path, h264_folder: Path, tmp_path: Path) -> None:
    """Budgets that are refused hold nothing; the one that the message names does."""
    for number, folder in enumerate((jpeg_folder, h264_folder)):
        table = {"data": str(folder), "budget": "100B", "frames": 2}
        with pytest.raises(SettingsError, match="a memory of one video takes about") as caught:
            _train_with(table, tmp_path / f"{number}")
        least = str(caught.value).rpartition(" ")[2]
        _train_with({**table, "budget": least}, tmp_path / f"{number}")


def _train_with(table: dict[str, object], out: Path) -> None:
    from vclimb.memory.pack import pack
    from vclimb.pipeline.dataset.dataset import StoredDataset
    from vclimb.training.checks import check_memory

    dataset = StoredDataset.open(str(table["data"]))
    memory = {"budget": table["budget"], "frames": table["frames"]}
    config = make_config({"data": table["data"], "memory": memory})
    check_memory(config.memory.settings("random", 0).fitting(dataset.settings.codec), dataset)
    assert len(pack(dataset, out, budget=str(table["budget"]), frames=2, rebalance=True).store)


def test_auto_stands_for_no_codec_of_its_own(h264_folder: Path) -> None:
    settings = MemorySettings.model_validate({"budget": {"kind": "all"}, "codec": "auto"}, strict=False)
    assert [settings.fitting(stored).codec for stored in ("jpeg", "h264")] == ["copy", "h264:24"]
    chosen = settings.replaced(codec="jpeg:50@32")
    assert chosen.fitting("h264") == chosen
