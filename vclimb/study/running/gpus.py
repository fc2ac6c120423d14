"""Which GPUs a study may use, without loading torch."""

from __future__ import annotations

import os
import shutil
import subprocess
from itertools import takewhile

from vclimb.pipeline.errors import SettingsError


def gpus_of(text: str) -> tuple[str, ...]:
    """GPUs for CUDA_VISIBLE_DEVICES: `0,1`, or `auto`: all that are visible.

    Numbers count the visible ones, as torch does: where a scheduler has set CUDA_VISIBLE_DEVICES to `4,5`, 0 is 4. A
    GPU may also be named as it is there, if that is no number (`GPU-8932f937`).

    Raises:
        SettingsError: the list holds no name, or one of a GPU that isn't visible.
    """
    visible = visible_gpus()
    if text == "auto":
        return visible
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise SettingsError(f"--gpus {text!r} names no GPU; write their numbers, such as 0,1, or auto")
    known = {str(number): name for number, name in enumerate(visible)}
    known |= {name: name for name in visible if not name.isdecimal()}
    for name in names:
        if name not in known:
            raise SettingsError(f"--gpus {text!r}: GPU {name!r} is not visible; {_allowed(visible)}")
    return tuple(known[name] for name in names)


def _allowed(visible: tuple[str, ...]) -> str:
    inherited = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible:
        of = "" if inherited is None else f", which count CUDA_VISIBLE_DEVICES={inherited}"
        return f"allowed: {', '.join(map(str, range(len(visible))))}{of}, or auto"
    reason = "nvidia-smi shows none" if inherited is None else f"CUDA_VISIBLE_DEVICES={inherited!r} hides all"
    return f"no GPU is: {reason}. Leave --gpus out to run without one, or set CUDA_VISIBLE_DEVICES to those there are"


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs that a process started now would see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        names = [part.strip() for part in visible.split(",")]
        return tuple(takewhile(lambda name: name not in ("", "-1"), names))  # CUDA sees none after one that is no GPU
    if (tool := shutil.which("nvidia-smi")) is None:
        return ()
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(str(number) for number, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU "))
