"""How much memory is still free for this process: on the machine, and within the limits of its container or job."""

from __future__ import annotations

from pathlib import Path

_ROOT = Path("/")


def free_memory(root: Path = _ROOT) -> int | None:
    """Bytes that this process may still use before the system ends it; None where the system doesn't tell.

    Memory that holds copies of files counts as free, since the system drops them when it needs the memory.
    """
    known = [n_bytes for n_bytes in (_of_machine(root), _of_cgroups(root)) if n_bytes is not None]
    return min(known, default=None)


def _of_machine(root: Path) -> int | None:
    return _field(root / "proc/meminfo", "MemAvailable:", 1024)


def _of_cgroups(root: Path) -> int | None:
    """The least that is free in this process' control group and those around it, in version 2 or 1."""
    free = []
    for line in _lines(root / "proc/self/cgroup"):
        number, controllers, path = line.split(":", 2)
        if number == "0":
            files, base = ("memory.max", "memory.current"), root / "sys/fs/cgroup"
        elif "memory" in controllers.split(","):
            files, base = ("memory.limit_in_bytes", "memory.usage_in_bytes"), root / "sys/fs/cgroup/memory"
        else:
            continue
        folder = base / path.strip("/")  # within a container, only the last of these may be there
        for place in (folder, *folder.parents):
            limit, used = (_number(place / name) for name in files)
            if limit is not None and used is not None:
                cached = sum(_field(place / "memory.stat", name, 1) or 0 for name in ("inactive_file", "active_file"))
                free.append(max(0, limit - used + cached))
            if place == base:
                break
    return min(free, default=None)


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:
        return []


def _number(path: Path) -> int | None:
    lines = _lines(path)
    return int(lines[0]) if lines and lines[0].isdecimal() else None  # `max`: no limit


def _field(path: Path, name: str, unit: int) -> int | None:
    for line in _lines(path):
        if line.split(" ", 1)[0] == name:
            return int(line.split()[1]) * unit
    return None
