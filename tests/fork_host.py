"""A process that has loaded everything a run needs, and forks itself for each run: a start of Python takes seconds.

The process of the tests must not be forked: earlier tests may have left threads, such as DALI's, whose locks a fork
inherits and nobody releases.
"""

from __future__ import annotations

import importlib
import itertools
import json
import os
import signal
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Self

from dataset_cases import command_environment

_HOST = "import sys; sys.path.insert(0, sys.argv[1]); from fork_host import serve; serve()"


class ForkHost:
    """Runs functions of this file in forks of another process."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", _HOST, str(Path(__file__).parent)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=command_environment(),
        )

    def run(self, job: str, *arguments: Any, environments: Sequence[Mapping[str, str]] = ({},)) -> list[int]:
        """Run a job in a fork for each environment, all at once; the status that each ended with, as `waitpid` has it.

        Args:
            job: name of a function of this file.
            arguments: of it, plain values.
            environments: what each fork has in its environment besides.
        """
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([job, list(map(_plain, arguments)), list(environments)]) + "\n")
        self._process.stdin.flush()
        answer = self._process.stdout.readline()
        assert answer, f"the host ended with {self._process.wait()}"
        return list(json.loads(answer))

    def run_in_two_processes(self, job: str, *arguments: Any) -> None:
        """Run a job in two processes, joined as torchrun joins them; both must succeed."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        joined = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        ranks = [{**joined, "RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(2)]
        assert self.run(job, *arguments, environments=ranks) == [0, 0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else value


def serve() -> None:
    """The host's life: a job a line, until its standard input ends."""
    # What every job needs. Each fork would take seconds to load what a run loads when it begins.
    import timm  # noqa: F401
    import torch._dynamo  # noqa: F401

    import vclimb.training.run  # noqa: F401

    for line in sys.stdin:
        job, arguments, environments = json.loads(line)
        forks = [_fork(job, arguments, environment) for environment in environments]
        print(json.dumps([os.waitpid(pid, 0)[1] for pid in forks]), flush=True)


def _fork(job: str, arguments: list[Any], environment: dict[str, str]) -> int:
    if pid := os.fork():
        return pid
    try:
        os.environ |= environment
        os.dup2(2, 1)  # the answers are the host's
        globals()[job](*arguments)
        os._exit(0)
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(1)


# Jobs.


def train_run(config: str, out: str, resume: bool) -> None:
    """Train with the settings of a file."""
    from vclimb.training.config import read_config
    from vclimb.training.run import train

    train(read_config(config), out, resume)


def train_killed(config: str, out: str, module: str, name: str, call: int, when: str) -> None:
    """Train until `kill_in` ends it."""
    kill_in(module, name, call, when)
    train_run(config, out, False)


def train_watched(config: str, out: str, folder: str) -> None:
    """Train, and write down the network that each task's evaluation is made with, a file for each process."""
    from safetensors.torch import save_file

    import vclimb.training.trainer as trainer

    inner: Any = trainer.evaluate

    def watched(run: Any, task: int) -> Any:
        save_file(run.learner.model.state_dict(), Path(folder) / f"{task}-{run.processes.rank}.safetensors")
        return inner(run, task)

    trainer.evaluate = watched
    train_run(config, out, False)


def train_with_clocks_apart(config: str, out: str, fast_rank: int) -> None:
    """Train where one process' clock runs a million times faster, so that it alone finds a checkpoint due."""
    import vclimb.training.task_training as task_training

    task_training._STEPS_BETWEEN_BROADCASTS = 1
    speed = 1e6 if int(os.environ["RANK"]) == fast_rank else 1.0
    task_training.time = SimpleNamespace(  # type: ignore[assignment]
        monotonic=lambda: speed * time.monotonic(), perf_counter=time.perf_counter
    )
    train_run(config, out, False)


def kill_in(module: str, name: str, call: int, when: str) -> None:
    """Let the n-th call of a function kill this process, `before` or `after` it does its work."""
    owner: Any = importlib.import_module(module)
    *path, last = name.split(".")
    for part in path:
        owner = getattr(owner, part)
    inner, calls = getattr(owner, last), itertools.count(1)

    def killing(*args: Any, **kwargs: Any) -> Any:
        number = next(calls)
        if number == call and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = inner(*args, **kwargs)
        if number == call:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    setattr(owner, last, killing)
