"""`vclimb.train` and `vclimb.plan`: runs from arguments, as the command line has them."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from vclimb.pipeline.dataset.dataset import StoredDataset
from vclimb.pipeline.errors import TargetError
from vclimb.pipeline.stream.workers import start_fork_server
from vclimb.pipeline.system.paths import local_path
from vclimb.scenario.api import Scenario
from vclimb.settings import MoreSettings, Table, merged, nested, read_table, settings_tables
from vclimb.training.checks import check_first
from vclimb.training.config import SHORT_NAMES, RunConfig, make_config
from vclimb.training.presets import preset_table
from vclimb.training.progress import TrainProgress
from vclimb.training.run_folder import RunFolder
from vclimb.training.saved_run import Run
from vclimb.training.start import StartClock

if TYPE_CHECKING:
    from vclimb.training.plan import RunPlan


def train(
    data: str | Path | StoredDataset | None = None,
    *,
    out: str | Path,
    method: str | None = None,
    tasks: int | None = None,
    scenario: str | Path | Scenario | None = None,
    budget: str | None = None,
    frames: int | str | None = None,
    codec: str | None = None,
    tc: float | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    split: str | None = None,
    weights: str | Path | None = None,
    compile: bool | None = None,
    preset: str | None = None,
    config: str | Path | RunConfig | None = None,
    settings: MoreSettings | None = None,
    allow_missing: bool = False,
    resume: bool = False,
    beginnings: str | Path | None = None,
    progress: bool | None = None,
) -> Run:
    """Train over the tasks of a scenario, and measure what is remembered.

    Settings come from `preset`, `config`, the other arguments and `settings`; later ones win. Arguments that are None
    leave a setting as it is. A run that is complete is returned as it is.

        run = vclimb.train("shards/NAME", out="runs/x", method="icarl", tasks=10, budget="64MB")
        run.acc, run.bwf, run.memory.bytes_on_disk

    Args:
        data: Prepared data set: a path, a URL, or what `vclimb.open` returns. May be left out where `config` names
            one, and in order to resume.
        out: Folder of the run.
        method: Name of the method.
        tasks: Number of tasks that the classes of the data set are dealt out to.
        scenario: Scenario, in place of `tasks`: JSON, a task file (pickle) of the benchmark, or a `vclimb.Scenario`,
            which is saved in `out`.
        budget: Budget of the replay memory: `2020v` (videos), `16160f` (frames), `64MB` (bytes on disk), `all`.
        frames: Number of frames kept of each video, K, or `all`; `pilot`: a pilot after the first task chooses it.
        codec: Encoding of exemplars, such as `copy` or `jpeg:75@128`; `pilot`: a pilot after the first task chooses it.
        tc: Weight of temporal consistency, from 0 (off) to 1.
        epochs: Number of epochs of each task.
        seed: Seed of everything that draws, except the order of classes.
        split: `own`: the data set's own split; `group`: a new one that keeps videos of one source together.
        weights: Weights of the backbone: `pretrained`, `none`, or a file.
        compile: Whether torch compiles the backbone.
        preset: Row of the benchmark's tables, such as `ucf101-10/icarl`.
        config: TOML file of settings, or the settings of another run.
        settings: Any other settings, as nested tables, dotted names (`{"model.size": 112}`) or
            assignments (`["model.size=112"]`).
        allow_missing: Whether to train without videos that the data set lacks.
        resume: Whether to go on with the run in `out`; where there is none, one begins.
        beginnings: Folder of trainings of the first task. The run takes its own from there where another run has left
            it, whose settings differ in nothing that this training depends on, such as in the memory alone. Where there
            is none, the run trains the task and leaves the training there. The results are the same.
        progress: None: shown on a terminal and in Jupyter. True: elsewhere too, a line for each task. False: quiet.

    Raises:
        SettingsError: a setting is unknown, out of range, or does not fit the others.
        TargetError: `out` holds another run or other files, or can't be written.
        KeyboardInterrupt: the run was stopped by Ctrl-C or SIGTERM, and can be resumed.
        VclimbError: the data set or the scenario can't be used, or training diverged.
    """
    arguments, clock = locals(), StartClock()
    folder = RunFolder(out)
    kept = None if beginnings is None else local_path(beginnings)
    if os.environ.get("RANK", "0") == "0":  # of the processes that torchrun started
        folder.check(resume)
    if isinstance(scenario, Scenario):
        arguments["scenario"] = folder.save_scenario(scenario)
    tables = _tables(arguments)
    if resume and not any(tables):
        if not folder.exists:
            raise TargetError(f"{out} holds no run to go on with; begin one: name a data set, and settings")
        tables = [folder.table()]
    check_first(merged(*tables))
    clock.end("settings")
    run_config = make_config(*tables)
    if run_config.compute.workers != 0:
        start_fork_server()  # ready by the time that the network is made
    from vclimb.training.run import train as train_run  # loads torch: wrong settings are refused before

    clock.end("imports")
    train_run(run_config, out, resume, TrainProgress(progress), kept, clock)
    return Run.load(out)


def plan(
    data: str | Path | StoredDataset | None = None,
    *,
    method: str | None = None,
    tasks: int | None = None,
    scenario: str | Path | Scenario | None = None,
    budget: str | None = None,
    frames: int | str | None = None,
    codec: str | None = None,
    tc: float | None = None,
    epochs: int | None = None,
    seed: int | None = None,
    split: str | None = None,
    weights: str | Path | None = None,
    compile: bool | None = None,
    preset: str | None = None,
    config: str | Path | RunConfig | None = None,
    settings: MoreSettings | None = None,
    allow_missing: bool = False,
) -> RunPlan:
    """Plan a run without training: tasks, steps, and the expected size of the replay memory.

    Arguments are those of `train`.

    Raises:
        VclimbError: what `train` would refuse before it trains.
    """
    with TemporaryDirectory() as folder:
        arguments = locals()
        if isinstance(scenario, Scenario):
            arguments["scenario"] = RunFolder(folder).save_scenario(scenario)
        run_config = _checked(_tables(arguments))
        from vclimb.training.plan import plan_run  # loads torch: wrong settings are refused before

        return plan_run(run_config)


def _checked(tables: Sequence[Table]) -> RunConfig:
    """Make the settings of a run. Importing its method loads torch, so what needs no method is checked before."""
    check_first(merged(*tables))
    return make_config(*tables)


def _tables(arguments: Mapping[str, Any]) -> list[Table]:
    """Convert the arguments of `train` or `plan` to tables of settings; later ones win."""
    preset, config, settings = arguments["preset"], arguments["config"], arguments["settings"]
    named = {setting: arguments[name] for name, setting in SHORT_NAMES.items() if name in arguments}
    named["data"] = _location(arguments["data"])
    named["scenario.file"] = arguments["scenario"]
    named["scenario.allow_missing"] = arguments["allow_missing"] or None
    tables = [] if preset is None else [preset_table(preset)]
    if isinstance(config, RunConfig):
        tables.append(config.to_table())
    elif config is not None:
        tables.append(read_table(config))
    tables += [
        nested(name, str(value) if isinstance(value, Path) else value)
        for name, value in named.items()
        if value is not None
    ]
    return [*tables, *settings_tables(settings)]


def _location(data: str | Path | StoredDataset | None) -> str | None:
    """Path or URL of a data set; local paths are absolute, so that a run can be resumed from another folder."""
    if isinstance(data, StoredDataset):
        return str(data.storage)
    if data is None:
        return None
    return os.path.abspath(data) if os.path.exists(data) else str(data)
