"""Reading mutated files: what counts as a fault, and a table of the outcomes."""

from __future__ import annotations

import hashlib
import os
import random
import resource
import shutil
import signal
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fuzz_mutations import mutated_bytes, mutated_content

import vclimb

LONGEST_CPU_SECONDS = 20
MOST_BYTES = 2**30
MAX_MESSAGE = 2500
_LIMIT_BYTES = 8 * 2**30

EQUAL, REFUSED, CHANGED = "equal", "refused", "changed"
TRACEBACK, HANG, CRASH, MEMORY, WRONG = "traceback", "hang", "crash", "memory", "silently wrong"
OUTCOMES = (EQUAL, REFUSED, CHANGED, TRACEBACK, HANG, CRASH, MEMORY, WRONG)
FAULTS = (TRACEBACK, HANG, CRASH, MEMORY, WRONG)


class Hang(BaseException):
    """A reading took more CPU time than any may."""


@dataclass(frozen=True)
class Kind:
    """A kind of file that vclimb reads back, and how it is read.

    Attributes:
        name: Name of the kind.
        folder: Folder that holds the file and all that a reading needs, within the folder of samples.
        file: Path of the file within that folder.
        read: Reads the folder; equal results mean equal readings.
        format: Format of the values in the file, or `bytes`.
        is_protected: Whether digests protect the file, so that no change by accident may go unnoticed.
        payload: Takes the part of the file that digests cover.
        seal: Writes a changed payload with digests that fit it, as somebody does who knows the format.
        is_slow: Whether a reading takes about a second, which the test in the suite has no time for.
    """

    name: str
    folder: str
    file: str
    read: Callable[[Path], object]
    format: str = "bytes"
    is_protected: bool = False
    payload: Callable[[bytes], bytes] = bytes
    seal: Callable[[Path, bytes], None] | None = None
    is_slow: bool = False


@dataclass(frozen=True)
class Outcome:
    """What came of one input; `detail` is the error."""

    kind: str
    seed: int
    outcome: str
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        return self.outcome in FAULTS


class Fuzzer:
    """Reads mutated files of one kind.

    Args:
        kind: Kind of file.
        samples: Folder with sound samples of all kinds.
        others: Contents of files of all kinds.
        place: Folder to work in.
    """

    def __init__(self, kind: Kind, samples: Path, others: Sequence[bytes], place: Path) -> None:
        self.kind, self.others = kind, others
        self.folder = place / kind.name.replace("/", "-") / kind.folder
        source = samples / kind.folder
        self._files = {
            str(path.relative_to(source)): path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file()
        }
        self._restore()
        self._expected = self._read()
        self._restore()

    def run(self, seed: int) -> Outcome:
        """Read one input, which the seed fixes."""
        mark = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        sealed = self.mutate(seed)
        try:
            found = self._read()
        except Hang as error:
            return self._outcome(seed, HANG, error)
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt):
                raise
            return self._outcome(seed, TRACEBACK, error)
        finally:
            self._restore()
        if (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - mark) * 1024 > MOST_BYTES:
            return self._outcome(seed, MEMORY)
        if isinstance(found, vclimb.VclimbError):
            words = str(found)
            is_one_line = "\n" not in words.strip() and len(words) <= MAX_MESSAGE and words.strip() != ""
            return self._outcome(seed, REFUSED if is_one_line else TRACEBACK, found)
        if found == self._expected:
            return self._outcome(seed, EQUAL)
        return self._outcome(seed, WRONG if self.kind.is_protected and not sealed else CHANGED)

    def mutate(self, seed: int) -> bool:
        """Write one input to the folder. Returns whether its digests were made to fit."""
        kind, dice = self.kind, random.Random(f"{self.kind.name} {seed}")
        data = self._files[kind.file]
        seals = kind.seal is not None and dice.random() < 0.5
        if not seals and (kind.format == "bytes" or dice.random() < 0.6):
            (self.folder / kind.file).write_bytes(mutated_bytes(data, self.others, dice))
        elif dice.random() < 0.7:
            self._write(mutated_content(kind.payload(data), kind.format, self.others, dice), seals)
        else:
            self._write(mutated_bytes(kind.payload(data), self.others, dice), seals)
        return seals

    def _write(self, payload: bytes, seals: bool) -> None:
        if seals and self.kind.seal is not None:
            self.kind.seal(self.folder, payload)
        else:
            (self.folder / self.kind.file).write_bytes(payload)

    def _restore(self) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        for name, data in self._files.items():
            (self.folder / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).write_bytes(data)

    def _read(self) -> object:
        """Read the folder within the limits; the result or the error that explains itself."""
        with _limits():
            try:
                return self.kind.read(self.folder)
            except vclimb.VclimbError as error:
                return error

    def _outcome(self, seed: int, outcome: str, error: BaseException | None = None) -> Outcome:
        lines = "".join(traceback.format_exception(error)) if outcome in (TRACEBACK, HANG) else str(error or "")
        return Outcome(
            self.kind.name, seed, outcome, lines if len(lines) < 6000 else f"{lines[:3000]}\n...\n{lines[-3000:]}"
        )


@contextmanager
def _limits() -> Iterator[None]:
    """Limit CPU time and memory."""

    def stop(_number: int, _frame: object) -> None:
        raise Hang(f"{LONGEST_CPU_SECONDS} CPU seconds")

    before = signal.signal(signal.SIGPROF, stop)
    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (_LIMIT_BYTES if hard < 0 else min(hard, _LIMIT_BYTES), hard))
    signal.setitimer(signal.ITIMER_PROF, LONGEST_CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, before)
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def contents_of(samples: Path, kinds: Sequence[Kind]) -> list[bytes]:
    """Read the sound file of each kind."""
    return [(samples / kind.folder / kind.file).read_bytes() for kind in kinds]


def digest_of(*parts: Any) -> str:
    """Compute a digest of values that repr shows wholly, and of bytes."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part if isinstance(part, bytes) else repr(part).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def table_of_outcomes(outcomes: Sequence[Outcome]) -> str:
    """Count outcomes by kind."""
    width = max(len("kind"), *(len(outcome.kind) for outcome in outcomes)) if outcomes else 4
    lines = [" ".join([f"{'kind':<{width}}", "inputs", *OUTCOMES])]
    groups = {name: [one for one in outcomes if one.kind == name] for name in dict.fromkeys(o.kind for o in outcomes)}
    for name, group in {**groups, "all": list(outcomes)}.items():
        counts = Counter(one.outcome for one in group)
        cells = [f"{counts[outcome]:>{len(outcome)}}" for outcome in OUTCOMES]
        lines.append(" ".join([f"{name:<{width}}", f"{len(group):>6}", *cells]))
    return "\n".join(lines)


def work_folder() -> str | None:
    """Find a place in memory for files that live for a moment; None: the usual place."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
