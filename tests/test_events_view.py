"""The timeline of a run's events, as a view."""

import numpy as np

from gptviz.dashboards import watch
from gptviz.model import GPT, GPTConfig
from gptviz.tokenizers import CharTokenizer
from gptviz.training import Recorder
from gptviz.views import events_view

HEAD = {"step": 300, "name": "induction_head", "layer": 1, "head": 0, "score": 0.81, "null": 0.04, "threshold": 0.33,
        "evidence": "L1H0 attends.", "false_if": "It would be false if not."}


def test_events_are_in_the_order_of_their_steps_with_score_and_null():
    drop = {**HEAD, "step": 20, "name": "loss_drop", "layer": None, "head": None, "score": 0.312, "null": 0.02,
            "threshold": 0.05}
    view = events_view([HEAD, {"step": 5, "name": "threads", "count": 1}, drop])
    assert [one["title"] for one in view.content["events"]] == ["loss drop", "induction head formed"]
    assert [one["short"] for one in view.content["events"]] == ["31.2 % vs 2.0 % by chance", "L1H0, 0.81 vs null 0.04"]
    assert view.arrays["step"].tolist() == [20, 300]
    np.testing.assert_allclose(view.arrays["threshold"], [0.05, 0.33], rtol=1e-6)


def test_a_plateau_says_since_when_and_how_level():
    flat = {**HEAD, "name": "loss_plateau", "layer": None, "head": None, "score": -0.001, "null": 0.004}
    old = events_view([flat]).content["events"][0]["short"]
    assert old == "level since step 150, within 0.4 %"  # half of its step, as every plateau
    new = events_view([{**flat, "more": {"first": 140}}]).content["events"][0]["short"]
    assert new == "level since step 140, within 0.4 %"


def test_dead_neurons_and_nan_say_where():
    dead = {**HEAD, "name": "dead_neurons", "head": None}
    lost = {"step": 9, "name": "nonfinite_loss", "loss": float("nan"), "first": "mlp_out", "layer": 2}
    assert [one["short"] for one in events_view([dead, lost]).content["events"]] == [
        "layer 2, first in mlp_out", "layer 1, 0.81 vs null 0.04"]


def test_a_watched_run_shows_its_events(run_dir):
    model = GPT(GPTConfig(16, 8, 1, 2, 8))
    with Recorder(model, CharTokenizer.from_characters("abcdefgh"), ["abcdefgh"], run_dir) as recorder:
        recorder.step(0, loss=2.0)
        model.lm_head.weight.data[0, 0] = float("nan")
        recorder.step(1, loss=float("nan"))
    view = next(view for view in watch(recorder.run).views if view.kind == "events")
    assert view.content["events"][0]["short"] == "first in transformer.wte.weight"
