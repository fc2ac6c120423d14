"""The package as a user gets it: built, installed beside other packages, and run far from this repository."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import pytest

from vclimb import __version__

ROOT = Path(__file__).parents[1]
DATA_FILES = {
    "vclimb/__init__.pyi",
    "vclimb/py.typed",
    "vclimb/study/report/published.csv",
    "vclimb/study/report/report.html.j2",
}


def build(source: Path, out: Path, *targets: str) -> None:
    flags = [word for target in targets for word in ("--target", target)]
    run(sys.executable, "-m", "hatchling", "build", *flags, "--directory", out, folder=source)


def run(*arguments: str | Path, folder: Path) -> str:
    """Standard output of a command that sees neither this repository nor the user's Python settings."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run([*map(str, arguments)], cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built")
    build(ROOT, out, "wheel", "sdist")
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="module")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A fresh environment with the wheel, which takes the dependencies from the environment of the tests.

    A path that a .pth file adds is not searched for .pth files, so the editable vclimb stays out.
    """
    folder = tmp_path_factory.mktemp("environment")
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=folder)
    python = folder / "bin/python"
    install = ("-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", "--no-compile", wheel)
    run(sys.executable, *install, folder=folder)
    (packages,) = folder.glob("lib/python*/site-packages")
    packages.joinpath("dependencies.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    return folder


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """A user's folder with modules of the names that vclimb's folders have in the repository."""
    for name in ("pipeline", "cli"):
        tmp_path.joinpath(f"{name}.py").write_text(f"raise RuntimeError('the user\\'s own {name}.py was imported')\n")
    return tmp_path


def test_wheel_owns_one_import_name_and_holds_the_data_files(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {name.split("/")[0] for name in names} == {"vclimb", f"vclimb-{__version__}.dist-info"}
    assert names >= DATA_FILES | {"vclimb/pipeline/__init__.py", "vclimb/cli/__main__.py"}
    assert f"vclimb-{__version__}.dist-info/licenses/LICENSE" in names


def test_wheel_of_the_source_archive_is_the_same(wheel: Path, tmp_path: Path) -> None:
    (archive,) = wheel.parent.glob("*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(tmp_path, filter="data")
    build(tmp_path / f"vclimb-{__version__}", tmp_path / "again", "wheel")
    assert (tmp_path / "again" / wheel.name).read_bytes() == wheel.read_bytes()


def test_command_runs_beside_modules_of_the_same_names(environment: Path, hostile_folder: Path) -> None:
    python = environment / "bin/python"
    torchrun = (python, "-m", "torch.distributed.run", "--nproc-per-node", "1", "-m", "vclimb.cli")
    for command in ((environment / "bin/vclimb",), (python, "-m", "vclimb.cli"), torchrun):
        assert run(*command, "--version", folder=hostile_folder) == f"vclimb {__version__}\n"


def test_python_interface_runs_beside_modules_of_the_same_names(environment: Path, hostile_folder: Path) -> None:
    """The call of `prepare` starts worker processes, which import what they need anew."""
    program = (
        "import vclimb\n"
        "vclimb.synth('videos', classes=2, train=1, test=1, progress=False)\n"
        "vclimb.prepare('videos', 'shards', short_side=32, workers=2, progress=False)\n"
        "print(vclimb.__file__, len(vclimb.open('shards').videos))\n"
    )
    file, n_videos = run(environment / "bin/python", "-c", program, folder=hostile_folder).split()
    assert Path(file).is_relative_to(environment)
    assert n_videos == "4"
