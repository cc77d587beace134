"""Many runs at a glance, and scalars for other tools."""

import csv
import importlib.util
import json
import math

import pytest

from gptviz.model import GPT, GPTConfig
from gptviz.runs import runs_table, write_scalars
from gptviz.training import Recorder


@pytest.fixture
def runs(tmp_path):
    folder = tmp_path / "RUNS"
    for name, losses in (("b", [3.0, 2.5]), ("a", [3.0, math.nan])):
        with Recorder(GPT(GPTConfig(16, 8, 1, 2, 8)), None, [[1, 2, 3]], folder / name) as recorder:
            for step, loss in enumerate(losses):
                recorder.step(step, loss=loss, **({"val_loss": 2.75} if step else {}))
    return folder


def test_one_row_for_each_run(runs):
    (runs / "notes").mkdir()
    (runs / "c").mkdir()
    (runs / "c" / "run.json").write_text("{")
    table = runs_table(runs)
    assert [row["name"] for row in table] == ["a", "b", "c"]
    assert [row["loss"] for row in table[1:]] == [2.5, None]
    assert math.isnan(table[0]["loss"])  # what came out last, not the last that was a number
    assert [row["events"] for row in table[:2]] == [1, 0]
    assert table[1]["steps"] == 2
    assert table[1]["status"] == "finished"
    assert table[2]["status"].startswith("damaged: ")
    assert repr(table).splitlines()[0].split()[:3] == ["name", "status", "last_step"]
    assert len(repr(table).splitlines()) == 4
    with pytest.raises(ValueError, match=r"is none\. Give the folder"):
        runs_table(runs / "a" / "run.json")


def test_scalars_as_csv(runs, tmp_path):
    from gptviz.runs import open_run

    text = write_scalars(open_run(runs / "a"), tmp_path / "a.csv").read_text()
    rows = list(csv.DictReader(text.splitlines()))
    assert [row["step"] for row in rows] == ["0", "1"]
    assert [row["loss"] for row in rows] == ["3.0", "nan"]
    assert [row["val_loss"] for row in rows] == ["", "2.75"]


def test_scalars_as_jsonl(runs, tmp_path):
    from gptviz.runs import open_run

    lines = write_scalars(open_run(runs / "a"), tmp_path / "a.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in lines] == [
        {"step": 0, "loss": 3.0}, {"step": 1, "loss": None, "val_loss": 2.75, "nonfinite": {"loss": "nan"}}]


@pytest.mark.skipif(importlib.util.find_spec("tensorboard") is not None, reason="tensorboard is installed here")
def test_tensorboard_is_asked_for_by_name(runs, tmp_path):
    from gptviz.runs import open_run

    with pytest.raises(ValueError, match="need the package tensorboard"):
        write_scalars(open_run(runs / "a"), tmp_path / "events")
