"""The wheel, installed away from the checkout: what a person gets from `pip install`."""

import os
import re
import site
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


def run(*command, cwd: Path) -> str:
    """Standard output of a program that must succeed, away from this checkout's environment."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "GPTVIZ"))}
    done = subprocess.run([*map(str, command)], cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    options = ("--no-build-isolation", "--no-deps", "--no-index", "--quiet", "--wheel-dir")
    run(sys.executable, "-m", "pip", "wheel", *options, folder, REPOSITORY, cwd=folder)
    return next(folder.glob("gptviz-*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory) -> Path:
    """bin folder of a new environment that holds the wheel and borrows every other package from this one.

    A path file names this environment's packages. Path files inside that folder, such as the one of the editable
    gptviz, are not read by Python, so the only gptviz there is comes from the wheel.
    """
    folder = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv", cwd=folder)
    programs = folder / "venv" / Path(sysconfig.get_path("scripts")).name
    pip = (sys.executable, "-m", "pip", "--python", programs / "python")
    run(*pip, "install", "--no-deps", "--no-index", "--quiet", wheel, cwd=folder)
    packages = run(programs / "python", "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=folder)
    borrowed = "\n".join(path for path in site.getsitepackages() if Path(path).is_dir())
    (Path(packages.strip()) / "borrowed.pth").write_text(borrowed + "\n", encoding="utf-8")
    return programs


def test_the_wheel_holds_the_package_the_front_end_and_the_packaged_runs(wheel):
    inside = set(zipfile.ZipFile(wheel).namelist())
    expected = {"gptviz/" + path.relative_to(REPOSITORY / "gptviz").as_posix()
                for kind in ("*.py", "static/**/*") for path in (REPOSITORY / "gptviz").rglob(kind) if path.is_file()}
    runs = REPOSITORY / "assets" / "runs"
    expected |= {f"gptviz/assets/runs/{path.relative_to(runs).as_posix()}"
                 for path in runs.rglob("*") if path.is_file()}
    assert expected <= inside
    assert not [name for name in inside if name.startswith(("tests/", "js/", "docs/"))]


def test_the_installed_package_is_the_wheels(installed, tmp_path):
    where = run(installed / "python", "-c", "import gptviz; print(gptviz.__file__)", cwd=tmp_path)
    assert Path(where.strip()).is_relative_to(installed.parent)


def test_the_installed_program_inspects_the_packaged_sorter(installed, tmp_path):
    shown = run(installed / "gptviz", "inspect", "sorter", "CBABBC", cwd=tmp_path)
    assert re.search(r"^ *5 +C .* A \((?:1\.0|0\.9)\d+\)$", shown, flags=re.MULTILINE), "A comes first"
