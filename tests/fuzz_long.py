"""Read thousands of mutated files of all kinds, by hand: `python tests/fuzz_long.py [-n 10000]`.

Each process reads one input at a time, so that an input that hangs or ends its process is known and counted. Prints a
table of outcomes by kind, and each fault with the arguments that repeat it. The exit status is 1 where there are any.

    python tests/fuzz_long.py -n 10000                        all kinds, on all cores
    python tests/fuzz_long.py --kind "jpeg tar" --seed 17     one input, with its error
    python tests/fuzz_long.py --flips                         all single-bit flips of both tables of a data set
"""

from __future__ import annotations

import argparse
import logging
import math
import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from fuzz_cases import CRASH, HANG, Fuzzer, Kind, Outcome, contents_of, table_of_outcomes, work_folder
from fuzz_kinds_data import data_kinds, make_data_samples
from fuzz_kinds_resumed import make_resumed_samples, resumed_kinds
from fuzz_kinds_runs import make_run_samples, run_kinds
from fuzz_kinds_sources import make_source_samples, source_kinds
from hostile_dataset import accepted_flips

LONGEST_SECONDS = 120  # of an input that no signal stops
SLOW_SHARE = 20  # a slow kind gets one of so many of the inputs that another kind gets

Input = tuple[str, int]


def make_samples(samples: Path, with_slow: bool) -> list[Kind]:
    """Make sound samples of all kinds, or of those that are read quickly, and list the kinds."""
    samples.mkdir()
    make_data_samples(samples)
    make_run_samples(samples)
    make_source_samples(samples)
    if with_slow:
        make_resumed_samples(samples)
    return kinds_of(samples)


def kinds_of(samples: Path) -> list[Kind]:
    """List the kinds of the samples that were made, without slow ones where only others were."""
    kinds = [*data_kinds(samples), *run_kinds(samples), *source_kinds()]
    if not (samples / "resumed-bic").exists():
        return [kind for kind in kinds if not kind.is_slow]
    return [*kinds, *resumed_kinds(samples)]


def inputs_of(kinds: Sequence[Kind], n: int, first_seed: int) -> list[Input]:
    """Spread inputs over kinds."""
    parts = [1 / SLOW_SHARE if kind.is_slow else 1.0 for kind in kinds]
    inputs = [
        (kind.name, first_seed + number)
        for kind, part in zip(kinds, parts, strict=True)
        for number in range(math.ceil(n * part / sum(parts)))
    ]
    return sorted(inputs, key=lambda one: (one[1], one[0]))


def read_inputs(pipe: Connection, samples: Path) -> None:
    """Read inputs that come from a pipe, and send their outcomes back."""
    logging.getLogger("vclimb").setLevel(logging.CRITICAL)
    kinds = {kind.name: kind for kind in kinds_of(samples)}
    others = contents_of(samples, list(kinds.values()))
    fuzzers: dict[str, Fuzzer] = {}
    with tempfile.TemporaryDirectory(dir=work_folder()) as place:
        pipe.send(None)
        while (one := pipe.recv()) is not None:
            name, seed = one
            if name not in fuzzers:
                fuzzers[name] = Fuzzer(kinds[name], samples, others, Path(place))
            pipe.send(fuzzers[name].run(seed))


@dataclass
class Reader:
    """A process that reads inputs, and the input that it reads now."""

    samples: Path
    current: Input | None = None
    since: float = 0.0
    process: Any = None
    pipe: Connection = field(init=False)

    def start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=read_inputs, args=(theirs, self.samples), daemon=True)
        self.process.start()
        theirs.close()
        self.current, self.since = None, time.monotonic()

    def give(self, one: Input | None) -> None:
        self.current, self.since = one, time.monotonic()
        self.pipe.send(one)

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def outcomes_of(inputs: Sequence[Input], samples: Path, n_processes: int) -> Iterator[Outcome]:
    """Read inputs in processes. One that hangs or ends its process is an outcome, and another process goes on."""
    left = list(reversed(inputs))
    readers = [Reader(samples) for _ in range(min(n_processes, len(inputs)))]
    for reader in readers:
        reader.start()
    n_busy = len(readers)
    while n_busy:
        ready = wait([reader.pipe for reader in readers if not reader.pipe.closed], timeout=1)
        for reader in [reader for reader in readers if not reader.pipe.closed]:
            outcome = None
            if reader.pipe in ready:
                try:
                    outcome = reader.pipe.recv()
                except (EOFError, ConnectionError):
                    reader.end()
                    if reader.current is None:
                        raise RuntimeError("a process could not read the sound samples") from None
                    yield Outcome(*reader.current, CRASH, f"exit status {reader.process.exitcode}")
                    reader.start()
                    continue
            elif time.monotonic() - reader.since > LONGEST_SECONDS and reader.current is not None:
                reader.end()
                yield Outcome(*reader.current, HANG, f"{LONGEST_SECONDS} s, stopped by no signal")
                reader.start()
                continue
            else:
                continue
            if outcome is not None:
                yield outcome
            if left:
                reader.give(left.pop())
            else:
                reader.give(None)
                reader.process.join(timeout=60)
                reader.end()
                n_busy -= 1


def read_flips(samples: Path) -> int:
    """Flip each bit of both tables of a data set. Returns the number of flips with which the data set opens."""
    n_accepted = 0
    for name in ("videos.parquet", "instances.parquet"):
        accepted = accepted_flips(samples / "jpeg", name)
        n_bits = 8 * (samples / "jpeg" / name).stat().st_size
        print(f"{name}: {n_bits} flips of one bit, {n_bits - len(accepted)} refused, accepted: {accepted}")
        n_accepted += len(accepted)
    return n_accepted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-n", type=int, default=10_000, help="number of inputs over all kinds")
    parser.add_argument("--processes", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--kind", help="only kinds whose names contain this text")
    parser.add_argument("--seed", type=int, help="only this input of the kind, with its error")
    parser.add_argument("--first-seed", type=int, default=0, help="seed of the first input of each kind")
    parser.add_argument("--flips", action="store_true", help="flip all bits of both tables instead")
    parser.add_argument("--list", action="store_true", help="list the kinds")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=work_folder()) as folder:
        samples = Path(folder) / "samples"
        kinds = make_samples(samples, with_slow=not arguments.flips)
        if arguments.flips:
            return min(1, read_flips(samples))
        chosen = [kind for kind in kinds if arguments.kind in (None, kind.name)]
        chosen = chosen or [kind for kind in kinds if arguments.kind in kind.name]
        if arguments.list or not chosen:
            print(*(kind.name for kind in kinds), sep="\n")
            return int(not chosen)
        if arguments.seed is not None:
            inputs = [(kind.name, arguments.seed) for kind in chosen]
        else:
            inputs = inputs_of(chosen, arguments.n, arguments.first_seed)
        outcomes, start = [], time.monotonic()
        with suppress(KeyboardInterrupt):  # what was read by then is counted
            for outcome in outcomes_of(inputs, samples, arguments.processes):
                outcomes.append(outcome)
                if outcome.is_fault or arguments.seed is not None:
                    print(
                        f"{outcome.outcome}: --kind {outcome.kind!r} --seed {outcome.seed}\n{outcome.detail}",
                        flush=True,
                    )
                if len(outcomes) % 500 == 0:
                    print(f"{len(outcomes)} of {len(inputs)} in {time.monotonic() - start:.0f} s", file=sys.stderr)
        places = {kind.name: place for place, kind in enumerate(kinds)}
        print(table_of_outcomes(sorted(outcomes, key=lambda one: (places[one.kind], one.seed))))
        return int(any(outcome.is_fault for outcome in outcomes) or len(outcomes) < len(inputs))


if __name__ == "__main__":
    sys.exit(main())
