"""The code in the README, run as a reader would run it."""

import re
import subprocess
import sys
from pathlib import Path

README = Path(__file__).resolve().parent.parent / "README.md"


def python_blocks() -> list[str]:
    return re.findall(r"^```python\n(.*?)^```", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)


def test_the_python_of_the_readme_runs(tmp_path):
    assert python_blocks(), "the README shows no Python"
    script = tmp_path / "readme.py"
    script.write_text("\n".join(python_blocks()), encoding="utf-8")
    done = subprocess.run([sys.executable, "-W", "error", script], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_make_target_that_the_readme_names_exists():
    makefile = (README.parent / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", makefile, flags=re.MULTILINE))
    assert set(re.findall(r"\bmake ([a-z-]+)", README.read_text(encoding="utf-8"))) <= targets
