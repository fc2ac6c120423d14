"""CUDA's Multi-Process Service, so that kernels of several runs compute on a GPU at the same time.

Without it a GPU gives its time to one process after another. The daemon belongs to one study: it listens in a folder of
its own, and ends with the study, however that ends. NVIDIA, "Multi-Process Service" (docs.nvidia.com/deploy/mps).
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from vclimb.pipeline.errors import SettingsError
from vclimb.pipeline.system.interrupts import interrupts_held
from vclimb.pipeline.system.parent import die_with_parent
from vclimb.study.running.places import gpu_variables

_CONTROL = "nvidia-cuda-mps-control"
_FOLDER = "CUDA_MPS_PIPE_DIRECTORY"
_DEFAULT_FOLDER = "/tmp/nvidia-mps"  # noqa: S108 - where CUDA looks for a daemon by default
_START_SECONDS = 10.0
_TRY_SECONDS = 60.0
_END_SECONDS = 5.0
# Makes a context on the first visible GPU, which asks the daemon for a server. Loads no torch.
_TRIAL = """
import ctypes, sys
cuda, context = ctypes.CDLL("libcuda.so.1"), ctypes.c_void_p()
sys.exit(cuda.cuInit(0) or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), 0))
"""


def is_running_already() -> bool:
    """Whether processes that are started now find a daemon that somebody else has started."""
    return Path(os.environ.get(_FOLDER, _DEFAULT_FOLDER), "control").exists()


class MpsDaemon:
    """Daemon of MPS for the processes that get its environment. It ends with the thread that made it.

    Args:
        gpus: GPUs to try, as CUDA_VISIBLE_DEVICES names them.

    Attributes:
        environment: Variables by which a process finds the daemon.

    Raises:
        SettingsError: The daemon isn't installed, doesn't start, or a GPU can't be used through it.
    """

    def __init__(self, gpus: Sequence[str]) -> None:
        if (tool := shutil.which(_CONTROL)) is None:
            raise SettingsError(f"{_CONTROL} is not found")
        self._folder = tempfile.mkdtemp(prefix="vclimb-mps-")  # a short path, as that of a socket must be
        self.environment: Mapping[str, str] = {_FOLDER: self._folder, "CUDA_MPS_LOG_DIRECTORY": self._folder}
        daemon = {**os.environ, **gpu_variables(""), **self.environment}
        del daemon["CUDA_VISIBLE_DEVICES"]  # it would count the GPUs that it sees from 0 again
        try:
            with interrupts_held():
                self._process = subprocess.Popen(
                    [tool, "-f"],
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    env=daemon,
                    start_new_session=True,  # Ctrl-C is for the study, which ends the daemon after the runs
                    preexec_fn=functools.partial(die_with_parent, signal.SIGTERM),
                )
        except OSError as error:
            shutil.rmtree(self._folder, ignore_errors=True)
            raise SettingsError(f"{tool} can't be started ({error})") from None
        try:
            self._wait_for_start()
            for gpu in gpus:
                self._try(gpu)
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """End the daemon and its servers. The processes that use them must have ended."""
        self._process.terminate()
        try:
            self._process.wait(_END_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _wait_for_start(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while not Path(self._folder, "control").exists():
            if self._process.poll() is not None:
                raise SettingsError(f"{_CONTROL} ends at once, with status {self._process.returncode}")
            if time.monotonic() > deadline:
                raise SettingsError(f"{_CONTROL} doesn't listen after {_START_SECONDS:.0f} s")
            time.sleep(0.02)

    def _try(self, gpu: str) -> None:
        environment = {**os.environ, **self.environment, **gpu_variables(gpu)}
        command = [sys.executable, "-c", _TRIAL]
        try:
            done = subprocess.run(command, env=environment, capture_output=True, timeout=_TRY_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            raise SettingsError(f"a program that takes GPU {gpu} through MPS doesn't end") from None
        if done.returncode:
            raise SettingsError(f"a program can't take GPU {gpu} through MPS (CUDA's error {done.returncode})")
