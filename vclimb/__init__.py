"""The vCLIMB benchmark: video class-incremental learning under a storage budget.

`__init__.pyi` lists the public names. They are loaded when they are first used, so that `import vclimb` is fast and
loads no torch.
"""

import os
import re
from importlib import import_module
from pathlib import Path
from typing import Any

__version__ = "0.1.0"

# Threads of torch that wait for each other sleep instead of spinning. With processes that decode on the same cores,
# spinning made training on two cores 3 to 10 times slower. The variable is read when torch is loaded.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_STUB = Path(__file__).with_suffix(".pyi").read_text("utf-8")
_MODULES = {name: module for module, name in re.findall(r"^from (\S+) import (\w+)", _STUB, re.MULTILINE)}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_MODULES})
