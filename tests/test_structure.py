"""The shape of the package: which folder may import which, no circles, and no long files.

All imports count: those at the top of a module, those inside functions, and those for type checkers.
"""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = {"vclimb": ROOT / "vclimb", "vclimb.pipeline": ROOT / "pipeline", "vclimb.cli": ROOT / "cli"}
MAX_LINES = 300


def source_files() -> dict[str, Path]:
    """File of each module, by the module's full name."""
    files = {}
    for package, folder in FOLDERS.items():
        for path in folder.rglob("*.py"):  # follows no links, so that each file has one name
            parts = path.relative_to(folder).with_suffix("").parts
            if package == "vclimb" and parts[0] in ("pipeline", "cli"):
                continue
            files[".".join([package, *(part for part in parts if part != "__init__")])] = path
    return files


FILES = source_files()


def imported(path: Path) -> Iterator[str]:
    """Full names of what a file imports: modules, or names that a module holds."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def module_of(name: str) -> str:
    """The module of vclimb that holds an imported name; the name itself where it is not of vclimb."""
    if name.split(".")[0] != "vclimb":
        return name
    while name not in FILES:
        name = name.rpartition(".")[0]
    return name


IMPORTS = {module: {module_of(name) for name in imported(path)} for module, path in FILES.items()}


def is_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def offenders(importers: str, *banned: str) -> list[str]:
    """Imports, by modules of a package, of modules of banned packages."""
    return [
        f"{module} imports {name}"
        for module, names in sorted(IMPORTS.items())
        if is_in(module, importers)
        for name in sorted(names)
        if any(is_in(name, package) for package in banned)
    ]


def test_imports_have_no_circle() -> None:
    """The public face is left out: it names modules of all folders and imports them when they are used."""
    graph = {
        module: {name for name in names if name in FILES and name not in ("vclimb", module)}
        for module, names in IMPORTS.items()
        if module != "vclimb"
    }
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" -> ".join(reversed(error.args[1])))


def test_library_does_not_import_its_own_public_face() -> None:
    users = [
        f"{module} imports {name}"
        for module, path in sorted(FILES.items())
        if not is_in(module, "vclimb.cli")
        for name in imported(path)
        if module_of(name) == "vclimb" and name != "vclimb.__version__"
    ]
    assert users == []


def test_pipeline_imports_nothing_from_the_rest_of_vclimb() -> None:
    others = [module for module in FILES if module != "vclimb" and not is_in(module, "vclimb.pipeline")]
    assert offenders("vclimb.pipeline", *others) == []


def test_library_does_not_import_the_command_line() -> None:
    packages = {module.split(".")[1] for module in FILES if "." in module} - {"cli"}
    assert [line for package in packages for line in offenders(f"vclimb.{package}", "vclimb.cli")] == []


def test_methods_do_not_import_training_or_memory_or_studies() -> None:
    assert offenders("vclimb.methods", "vclimb.training", "vclimb.memory", "vclimb.study") == []


def test_commands_import_the_public_interface_only() -> None:
    allowed = {"vclimb", "typer", "rich", *sys.stdlib_module_names}
    bad = [
        f"{module} imports {name}"
        for module, names in sorted(IMPORTS.items())
        if is_in(module, "vclimb.cli")
        for name in sorted(names)
        if not is_in(name, "vclimb.cli") and (name.split(".")[0] not in allowed or name.startswith("vclimb."))
    ]
    assert bad == []


def test_files_are_short_or_say_why_not() -> None:
    long = {}
    for path in FILES.values():
        lines = path.read_text("utf-8").splitlines()
        if len(lines) > MAX_LINES and "over 300 lines" not in "\n".join(lines[:20]):
            long[str(path.relative_to(ROOT))] = len(lines)
    assert long == {}


def test_dependencies_are_the_packages_that_are_imported() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = [line for lines in project["optional-dependencies"].values() for line in lines]
    required, optional = (
        {canonical(re.split(r"[^\w.-]", line)[0]) for line in lines} for lines in (project["dependencies"], extras)
    )
    names = {name.split(".")[0] for names in IMPORTS.values() for name in names}
    owners = packages_distributions()
    others = names - {"vclimb", "nvidia", *sys.stdlib_module_names}
    imported = {canonical(owners.get(name, [name])[0]) for name in others}  # packages of extras may not be installed
    assert imported <= required | optional
    assert required <= imported | {"nvidia-dali-cuda130"}


def canonical(distribution: str) -> str:
    return distribution.lower().replace("_", "-")


def test_options_of_some_versions_of_pyav_are_said_in_one_place() -> None:
    """Python 3.11, which CI has, never gets the newest PyAV, which refuses this one."""
    naming = [module for module, path in FILES.items() if "metadata_errors" in path.read_text("utf-8")]
    assert naming == ["vclimb.pipeline.system.pyav"]
