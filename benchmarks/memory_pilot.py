"""Apply the pilot of encodings to a network that has learned a first task, and rank encodings for several budgets.

    vclimb train shards/jhmdb21 --out runs/first --method finetune --tasks 7 --set scenario.first_tasks=1 ...
    python benchmarks/memory_pilot.py runs/first --budgets 400kB 1MB 2MB
    python benchmarks/memory_pilot.py runs/first --budgets 2MB --encodings 1,copy 8,copy 8,h264:28 4,jpeg:50@64

Prints what `memory.codec = "pilot"` with `memory.frames = "pilot"` measures (agreement, recall, bytes), and for each
budget the number of videos of a class and the score. Encodings are K and codec; without any, those of the pilot.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

from vclimb.memory.choice.budget import MemoryBudget
from vclimb.training.checkpoint import newest_checkpoint
from vclimb.training.config import RunConfig
from vclimb.training.memory_pilot import compare_encodings, videos_per_class
from vclimb.training.memory_settings import candidate_settings
from vclimb.training.pilot_facts import ranked
from vclimb.training.processes import distributed
from vclimb.training.run import cached_data, make_context
from vclimb.training.run_context import RunContext
from vclimb.training.run_folder import RunFolder
from vclimb.training.stopping import StopRequest


def piloted(config: RunConfig, budget: str) -> RunConfig:
    """Make the settings of a run over all tasks whose encoding a pilot chooses."""
    memory = config.memory.replaced(budget=budget, codec="pilot", frames="pilot")
    scenario = config.scenario.replaced(first_tasks=None)
    return config.replaced(method={"name": "naive"}, memory=memory, scenario=scenario)


def print_tables(run: RunContext, encodings: list[str], budgets: list[str]) -> None:
    """Measure encodings, and print a table for each budget."""
    settings = candidate_settings(run.config, run.method, run.data.codec)
    if encodings:
        pairs = [encoding.split(",", 1) for encoding in encodings]
        settings = [settings[0].replaced(frames=int(frames), codec=codec) for frames, codec in pairs]
    items = run.data.training_items(0)
    facts = compare_encodings(run, items, settings)
    items.close()
    print(f"{facts.videos} videos of the first task, {100 * facts.accuracy:.1f} % of them right")
    for budget in budgets:
        limited = settings[0].replaced(budget=MemoryBudget.parse(budget))
        held = [
            replace(one, videos_per_class=videos_per_class(run, limited, one.video_bytes)) for one in facts.candidates
        ]
        print(f"\n| {budget} | bytes of a video | videos of a class | agreement | recall | score |")
        print("|---|---|---|---|---|---|")
        for one in ranked(held):
            shares = f"{one.agreement:.3f} | {one.recall:.3f} | {one.score:.2f}"
            print(f"| {one.name} | {one.video_bytes:,.0f} | {one.videos_per_class:.1f} | {shares} |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, help="folder of a run that has learned its first task")
    parser.add_argument("--budgets", nargs="+", default=["2MB"])
    parser.add_argument("--encodings", nargs="+", default=[], help="K and codec, such as 8,h264:28")
    options = parser.parse_args()
    folder = RunFolder(options.run)
    config = piloted(folder.config(), options.budgets[0])
    state = newest_checkpoint(folder.checkpoints)
    if state is None:
        raise SystemExit(f"{options.run} has no checkpoint")
    with TemporaryDirectory() as place, distributed(config.compute.device) as processes:
        run = make_context(config, RunFolder(place), cached_data(config), processes, StopRequest())
        run.learner.model.restore(state["model"])
        print_tables(run, options.encodings, options.budgets)


if __name__ == "__main__":
    main()
