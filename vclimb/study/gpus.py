"""Which GPUs a study may use, without loading torch."""

from __future__ import annotations

import os
import shutil
import subprocess

from pipeline.errors import SettingsError


def gpus_of(text: str) -> tuple[str, ...]:
    """GPUs for CUDA_VISIBLE_DEVICES: `0,1`, or `auto`: all that are visible.

    Raises:
        SettingsError: the list holds no name.
    """
    if text == "auto":
        return visible_gpus()
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    if not names:
        raise SettingsError(f"--gpus {text!r} names no GPU; write their numbers, such as 0,1, or auto")
    return names


def visible_gpus() -> tuple[str, ...]:
    """Names of the GPUs that a process started now would see."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return tuple(part.strip() for part in visible.split(",") if part.strip() not in ("", "-1"))
    if (tool := shutil.which("nvidia-smi")) is None:
        return ()
    try:
        done = subprocess.run([tool, "-L"], capture_output=True, text=True, timeout=20, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ()
    return tuple(str(number) for number, line in enumerate(done.stdout.splitlines()) if line.startswith("GPU "))
