"""State of a process that a run may change, put back after the run, so that the next one begins as in a new process."""

from __future__ import annotations

import gc
import logging
import os
import random
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch

_SEED_OF_TORCH = torch.initial_seed()  # of a new process
_LOGGERS = ("", "vclimb")


def _setting(owner: Any, name: str) -> tuple[Callable[[], Any], Callable[[Any], None]]:
    return lambda: getattr(owner, name), lambda value: setattr(owner, name, value)


# Functions that get and set the settings of torch that change results or speed.
_TORCH_SETTINGS: tuple[tuple[Callable[[], Any], Callable[[Any], None]], ...] = (
    (torch.get_num_threads, torch.set_num_threads),
    (torch.get_default_dtype, torch.set_default_dtype),
    (torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    (torch.get_deterministic_debug_mode, torch.set_deterministic_debug_mode),
    _setting(torch.backends.cudnn, "benchmark"),
    _setting(torch.backends.cudnn, "benchmark_limit"),
    _setting(torch.backends.cudnn, "deterministic"),
    _setting(torch.backends.cudnn, "allow_tf32"),
)


@contextmanager
def as_in_new_process() -> Iterator[None]:
    """Begin a block with the state of a new process, and put the state back after it, unless it raises.

    That is: random number generators, settings of torch, environment, working folder, arguments, search path, handlers
    of logs, filters of warnings, compiled code, and the GPU's memory. Modules that are loaded stay.
    """
    torch.manual_seed(_SEED_OF_TORCH)  # of the CPU and the GPUs
    random.seed()
    np.random.seed()  # other packages may draw from it
    torch_settings = [get() for get, _ in _TORCH_SETTINGS]
    environment, folder, arguments, path = dict(os.environ), os.getcwd(), [*sys.argv], [*sys.path]
    loggers = [(logging.getLogger(name), vars(logging.getLogger(name)).copy()) for name in _LOGGERS]
    handlers = [[*logger.handlers] for logger, _ in loggers]
    with warnings.catch_warnings():
        yield
    for (_, set_to), value in zip(_TORCH_SETTINGS, torch_settings, strict=True):
        set_to(value)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(folder)
    sys.argv, sys.path = arguments, path
    for (logger, attributes), before in zip(loggers, handlers, strict=True):
        logger.setLevel(attributes["level"])
        logger.propagate, logger.handlers = attributes["propagate"], before
    if "torch._dynamo" in sys.modules:
        torch.compiler.reset()
    gc.collect()
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
