"""What every test shares: fixed seeds, one thread, a place for runs, and a check of what is left behind."""

import gc
import os
import random
import shutil
import threading
import weakref
from pathlib import Path

# Before torch, matplotlib or tiktoken is imported.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["MPLBACKEND"] = "Agg"
os.environ["HF_HUB_OFFLINE"] = "1"

import hypothesis
import numpy as np
import pytest
import torch

from gptviz import widgets
from gptviz.model import HookPoint

REPOSITORY = Path(__file__).resolve().parent.parent
# Data too large for the repository.
SHARED = Path(os.environ.get("GPTVIZ_SHARED", REPOSITORY.parent / "shared"))

torch.set_num_threads(1)
slow = [hypothesis.HealthCheck.too_slow]
hypothesis.settings.register_profile("untimed", deadline=None, suppress_health_check=slow)  # a busy machine is no error
hypothesis.settings.load_profile("untimed")
widgets.PAGE_SECONDS = 3600.0  # nor do pages that are made on one lack anything


# --- nothing is left behind ---------------------------------------------------------------------------------

_hook_points: weakref.WeakSet = weakref.WeakSet()


def _remember(cls, *args, **kwargs):
    """`HookPoint.__new__` of the tests; not `__init__`, which copy.deepcopy skips."""
    hook_point = torch.nn.Module.__new__(cls)
    _hook_points.add(hook_point)
    return hook_point


HookPoint.__new__ = staticmethod(_remember)


def _heard() -> set[int]:
    return {id(point) for point in _hook_points if point.heard}


def _settings() -> dict[str, object]:
    return {
        "grad mode": torch.is_grad_enabled(),
        "default dtype": torch.get_default_dtype(),
        "torch threads": torch.get_num_threads(),
        "deterministic algorithms": torch.are_deterministic_algorithms_enabled(),
        "working directory": os.getcwd(),
    }


@pytest.fixture(autouse=True)
def nothing_left_behind():
    """Fail a test that leaves hooks on a living model or a changed setting to the tests after it."""
    settings, heard = _settings(), _heard()
    yield
    left = {name: f"{settings[name]} -> {now}" for name, now in _settings().items() if now != settings[name]}
    if _heard() - heard:
        for thread in threading.enumerate():
            if thread.name == "gptviz-watch":
                thread.join(10)  # a board that takes a last look at a training of the test leaves nothing behind
        gc.collect()  # a model in a reference cycle, a traceback perhaps, is not a model left behind
        if points := _heard() - heard:
            left["hook points that are still heard"] = str(len(points))
    assert not left, f"the test left something behind: {left}"


@pytest.fixture(autouse=True)
def fixed_seeds():
    """Every test starts from the same random numbers, whatever ran before it."""
    torch.manual_seed(0)
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 (for libraries that still read it)


# --- data that is not in the repository ---------------------------------------------------------------------


@pytest.fixture(scope="session")
def tinyshakespeare() -> Path:
    """The Tiny Shakespeare corpus, 1,115,394 bytes."""
    path = SHARED / "corpora" / "tinyshakespeare.txt"
    if not path.is_file():
        pytest.skip(f"needs {path}; set GPTVIZ_SHARED to the folder that holds corpora/tinyshakespeare.txt")
    return path


@pytest.fixture
def tiktoken_cache(monkeypatch) -> Path:
    """A folder in which tiktoken finds GPT-2's vocabulary without the network; set as TIKTOKEN_CACHE_DIR."""
    path = Path(os.environ.get("TIKTOKEN_CACHE_DIR", SHARED / "tiktoken_cache"))
    if not path.is_dir():
        pytest.skip(f"needs GPT-2's vocabulary in {path}; set TIKTOKEN_CACHE_DIR to tiktoken's cache folder")
    monkeypatch.setenv("TIKTOKEN_CACHE_DIR", str(path))
    return path


# --- places and programs ------------------------------------------------------------------------------------


@pytest.fixture
def run_dir(tmp_path) -> Path:
    """A path for a run directory that does not exist yet."""
    return tmp_path / "run"


@pytest.fixture(scope="session")
def chromium() -> str:
    """Path of a Chromium: GPTVIZ_CHROMIUM, one that is installed, or the one that playwright downloaded."""
    names = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
    found = os.environ.get("GPTVIZ_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    found = found or _playwright_chromium()
    if found is None:
        pytest.skip(f"no browser: none of {', '.join(names)} on PATH; `make test` installs one where it can")
    return found


def _playwright_chromium() -> str | None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="the browser tests need playwright")
    with sync_api.sync_playwright() as playwright:
        path = playwright.chromium.executable_path
    return path if Path(path).is_file() else None
