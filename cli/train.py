"""`vclimb train`: a run over the tasks of a scenario, or the plan of one."""

from __future__ import annotations

import logging
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vclimb.cli.console import explain_errors, print_json, warn
from vclimb.cli.train_progress import TrainProgress
from vclimb.cli.train_summary import print_plan, print_run
from vclimb.pipeline.errors import SettingsError

if TYPE_CHECKING:  # torch takes seconds to import
    from vclimb.training.config import RunConfig

_FLAG_SETTINGS = {
    "tasks": "scenario.tasks",
    "method": "method.name",
    "memory": "memory.budget",
    "frames": "memory.frames",
    "codec": "memory.codec",
    "tc": "consistency.weight",
    "epochs": "training.epochs",
    "seed": "seed",
    "split": "scenario.split",
    "weights": "model.weights",
    "compile_": "compute.compile",
}


def command(
    data: Annotated[
        str | None, typer.Argument(help="A prepared data set, e.g. shards/NAME. With --resume it may be left out.")
    ] = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The run's folder, e.g. runs/NAME.")] = None,
    scenario: Annotated[
        str | None, typer.Option(help="A scenario as JSON (`vclimb scenario export`), or a task file of the benchmark.")
    ] = None,
    tasks: Annotated[int | None, typer.Option(help="Or: deal the data set's classes out to so many tasks.")] = None,
    split: Annotated[
        str | None,
        typer.Option(help="own (the data set's, the default) or group: no source in both training and test."),
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="finetune, naive, ewc, mas, lwf, icarl, bic or joint. Default: naive.")
    ] = None,
    memory: Annotated[
        str | None, typer.Option(help="Budget of the replay memory: 2020v (videos), 16160f (frames), 64MB (on disk).")
    ] = None,
    frames: Annotated[str | None, typer.Option(help="Frames kept of each video, or all. Default: 8.")] = None,
    codec: Annotated[
        str | None, typer.Option(help="How exemplars are encoded: copy, jpeg:75@128, h264:24, ... Default: copy.")
    ] = None,
    tc: Annotated[float | None, typer.Option(help="Weight of temporal consistency, 0 (off) to 1.")] = None,
    epochs: Annotated[int | None, typer.Option(help="Of each task. Default: 50.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of everything that draws, but the order of classes.")] = None,
    weights: Annotated[
        str | None, typer.Option(help="The backbone's: pretrained (downloaded; the default), none, or a file.")
    ] = None,
    compile_: Annotated[
        bool, typer.Option("--compile", help="Let torch compile the backbone: a minute more, then faster steps.")
    ] = False,
    preset: Annotated[
        str | None, typer.Option(help="The benchmark's settings of a row of its tables, e.g. ucf101-10/icarl.")
    ] = None,
    config: Annotated[Path | None, typer.Option(help="Settings as TOML, as a run's config.toml has them.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any other setting, e.g. model.size=112; may be repeated."),
    ] = None,
    allow_missing: Annotated[
        bool, typer.Option("--allow-missing", help="Train without videos that the data set lacks.")
    ] = False,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, wherever it was stopped or killed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Print tasks, steps and expected bytes of the memory; train nothing.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print the metrics (or the plan) as JSON.")] = False,
) -> None:
    """Train over the tasks of a scenario and measure what is remembered: the vCLIMB benchmark.

    Later settings win: --preset, --config, flags, --set. Several GPUs:
    `torchrun --nproc-per-node 4 -m vclimb.cli train ...`.
    """
    _quieten()
    flags = {
        "tasks": tasks,
        "method": method,
        "memory": memory,
        "frames": int(frames) if frames is not None and frames.isdigit() else frames,
        "codec": codec,
        "tc": tc,
        "epochs": epochs,
        "seed": seed,
        "split": split,
        "weights": weights,
        "compile_": compile_ or None,
    }
    is_first = os.environ.get("RANK", "0") == "0"

    def settings() -> RunConfig:
        from vclimb.settings import nested
        from vclimb.training.config import make_config, read_table
        from vclimb.training.presets import preset_table
        from vclimb.training.run_folder import RunFolder

        given = {_FLAG_SETTINGS[name]: value for name, value in flags.items() if value is not None}
        if resume and out is not None and RunFolder(out).exists and not (data or given or preset or config):
            return RunFolder(out).config()
        tables: list[dict[str, Any]] = [preset_table(preset)] if preset else []
        if config is not None:
            tables.append(read_table(config))
        tables += [nested(name, value) for name, value in given.items()]
        if scenario is not None:
            tables.append({"scenario": {"file": scenario}})
        if allow_missing:
            tables.append({"scenario": {"allow_missing": True}})
        if data is not None:
            tables.append({"data": os.path.abspath(data) if os.path.exists(data) else data})
        return make_config(*tables, assignments=tuple(set_ or ()))

    def work() -> dict[str, Any]:
        from vclimb.training.plan import plan_of
        from vclimb.training.run import train

        run_config = settings()
        if dry_run:
            return plan_of(run_config)
        if out is None:
            raise SettingsError("a run needs a folder; name one by --out, such as runs/NAME")
        with TrainProgress(quiet=as_json or not is_first) as progress:
            return train(run_config, out, resume, progress)

    where = f"Go on with: vclimb train --resume --out {out}" if out is not None and not dry_run else ""
    result = explain_errors(work, where)
    if not is_first:
        return
    if as_json:
        print_json(result)
    elif dry_run:
        print_plan(result)
    else:
        assert out is not None
        print_run(out, result)


def _quieten() -> None:
    """The library's warnings become lines, and torch's hints to its developers nothing."""
    warnings.filterwarnings("ignore", module="torch")

    class Line(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            warn(record.getMessage())

    logger = logging.getLogger("vclimb")
    if not any(type(handler).__name__ == "Line" for handler in logger.handlers):
        handler = Line(level=logging.WARNING)
        logger.addHandler(handler)
        logger.propagate = False
