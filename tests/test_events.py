"""Events: found while a model trains, with a null and a margin, and found again in the run directory."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
import torch

from gptviz.analysis import pattern_scores_over
from gptviz.analysis.events import Detector, events_in, events_of, loss_bins, observe_run
from gptviz.analysis.heads import SHARES
from gptviz.analysis.measures import ProgressMeasures
from gptviz.corpora import TextData
from gptviz.model import GPT, GPTConfig
from gptviz.runs import RunWriter, open_run, schedule
from gptviz.trace import record
from gptviz.training import Recorder

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. " * 30
PROBES = ["the quick brown ", "ve dozen jugs. t"]


@pytest.fixture(scope="module")
def data():
    return TextData.from_text(TEXT)


def loop(data, n_steps, out=None, **options):
    """A plain nanoGPT loop, recorded if there is somewhere to record to: the losses, and the recorder."""
    torch.manual_seed(0)
    model = GPT(GPTConfig(16, data.vocab_size, 2, 2, 16, dropout=0.1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    rng, losses = np.random.default_rng(0), []
    recorder = Recorder(model, data.tokenizer, PROBES, out, **options) if out else None
    for step in range(n_steps + 1):
        x, y = (torch.from_numpy(part) for part in data.batch("train", 4, 16, rng))
        _, loss = model(x, y)
        if recorder:
            recorder.step(step, loss=loss.item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    if recorder:
        recorder.close()
    return losses, recorder


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    return loop(data, 200, tmp_path_factory.mktemp("events") / "run", steps=schedule(200))[1].run


# --- while training -----------------------------------------------------------------------------------------


def test_looking_for_events_does_not_change_the_training(data, tmp_path):
    looked_at, _ = loop(data, 40, tmp_path / "run", steps=range(41))
    assert looked_at == loop(data, 40)[0]


def test_events_are_written_while_training_and_found_again(run):
    written = [event for event in run.events if "score" in event]
    assert written
    assert [event.record() for event in events_of(run)] == written
    for event in written:
        assert event["score"] >= event["threshold"] or event["name"] == "loss_plateau"
        assert event["evidence"].endswith(".")
        assert event["false_if"].startswith("It would be false if ")


def test_a_run_without_observations_is_measured_from_its_weights(run):
    again = observe_run(run)
    assert [one["step"] for one in again] == [one["step"] for one in run.observations] == run.steps
    for new, old in zip(again, run.observations, strict=True):
        for name in ("heads", "null", "null_high", "dead", "losses"):
            np.testing.assert_allclose(flat(new[name]), flat(old[name]), atol=2e-4)


def flat(value):
    if isinstance(value, dict):
        return [number for one in value.values() for number in flat(one)]
    return np.ravel(value).astype(float).tolist() if np.shape(value) != (0,) else []


def test_the_detector_never_looks_ahead(run):
    seen = run.observations
    for n in (1, len(seen) // 2, len(seen)):
        until = seen[n - 1]["step"]
        assert events_in(seen[:n]) == [event for event in events_in(seen) if event.step <= until]


def test_events_are_read_without_torch(run):
    code = ("import sys; from gptviz.runs import open_run; from gptviz.analysis.events import events_of;"
            f"run = open_run({str(run.path)!r}); run.head_scores(); print(len(events_of(run)), 'torch' in sys.modules)")
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert printed.split() == [str(len(events_of(run))), "False"]


def test_a_step_trained_again_finds_its_events_again(run, tmp_path):
    """What was observed up to the step that a run goes on from counts, once; what came later does not."""
    import shutil

    folder = tmp_path / "copy"
    shutil.copytree(run.path, folder)
    event = next(one for one in run.events if "score" in one)
    writer = RunWriter(folder, max_iters=200, from_step=event["step"])
    writer.commit(event["step"], {}, [event])
    writer.close()
    again = open_run(folder)
    assert [one for one in again.events if one == event] == [event]
    assert max(one["step"] for one in again.observations) == event["step"]
    assert not [one for one in again.events if one["step"] > event["step"]]


def test_head_scores_follow_the_run(run):
    scores = run.head_scores()
    assert scores["step"].tolist() == run.steps
    assert scores["induction"].shape == scores["null_high/induction"].shape == (len(run.steps), 2, 2)


# --- the measures -------------------------------------------------------------------------------------------


def test_the_scores_are_those_of_pattern_scores():
    model = GPT(GPTConfig(32, 7, 2, 2, 16))
    for parameter in model.parameters():
        parameter.data.normal_(0, 0.3)
    measures = ProgressMeasures(model.config)
    texts = [text.ids for text in measures._texts]
    patterns = [(trace["pattern"].detach().numpy(), np.array(ids)) for ids, trace in
                zip(texts, record(model, texts, names="pattern"), strict=True)]
    expected, found = pattern_scores_over(patterns, n_null=200, n_bootstrap=1), measures.observe(model)
    for name in SHARES:
        np.testing.assert_allclose(found["heads"][name], expected[name].value, atol=1e-4)
        np.testing.assert_allclose(found["null"][name], expected[name].null, atol=0.06)


def induction_patterns(ids):
    """Two layers of one sharp and one even head: previous token, then the token after an earlier copy of one's own."""
    n = len(ids)
    pattern = torch.tril(torch.ones(2, 2, n, n)) / torch.arange(1, n + 1)[:, None]
    for query in range(1, n):
        pattern[0, 0, query] = torch.eye(n)[query - 1]
        after = [key for key in range(1, query) if ids[key - 1] == ids[query]]
        if after:
            pattern[1, 1, query] = torch.eye(n)[after[-1]]
    return pattern


def test_a_previous_token_head_and_an_induction_head_are_found_where_they_are():
    measures = ProgressMeasures(GPTConfig(48, 40, 2, 2, 16))
    traces = [{"pattern": induction_patterns(text.ids)} for text in measures._texts]
    seen = measures._heads(traces)
    found = events_in([{"step": 4, **seen}])
    assert [(event.name, event.layer, event.head) for event in found] == [
        ("previous_token_head", 0, 0), ("induction_head", 1, 1)]
    assert found[1].score > 0.6 > found[1].threshold > 0.3 > found[1].null
    assert "No previous-token head stands out below it" in found[1].evidence
    shuffled = [{"pattern": induction_patterns(list(reversed(text.ids)))} for text in measures._texts]
    control = events_in([{"step": 4, **measures._heads(shuffled)}])
    assert [event.name for event in control] == ["previous_token_head"]


def test_an_induction_head_is_said_with_the_head_it_composes_with():
    model = GPT(GPTConfig(48, 40, 2, 2, 16))
    measures = ProgressMeasures(model.config)
    seen = measures._heads([{"pattern": induction_patterns(text.ids)} for text in measures._texts])
    found = measures._composition(model, seen, (1, 1))
    assert found["writer"] == [0, 0]
    assert 0 < found["k"] < 1
    assert 0 < found["k_null_high"] < 1
    assert found["ablated"] < 0.2  # this model was never trained
    (event,) = [one for one in events_in([{"step": 4, **seen, "composition": [found]}]) if one.name == "induction_head"]
    assert "composes with the previous-token head L0H0: K-composition" in event.evidence
    assert event.more["writer"] == [0, 0]


def test_an_untrained_model_has_no_events():
    model = GPT(GPTConfig(32, 20, 2, 4, 32))
    measures = ProgressMeasures(model.config, [list(range(20))])
    assert events_in([{"step": 0, "losses": [], **measures.observe(model)}]) == []


def test_dead_neurons_are_counted_and_said():
    model = GPT(GPTConfig(32, 20, 2, 2, 16, bias=True))
    measures, detector = ProgressMeasures(model.config), Detector()
    assert detector.take({"step": 0, **measures.observe(model)}) == []
    model.transformer.h[1].mlp.c_fc.bias.data[:8] = -50.0
    (event,) = detector.take({"step": 1, **measures.observe(model)})
    assert (event.name, event.layer, event.score, event.null) == ("dead_neurons", 1, 0.125, 0.0)
    assert event.evidence.startswith("8 of 64 neurons of layer 1")
    assert detector.take({"step": 2, **measures.observe(model)}) == []


def test_a_model_with_nan_is_observed_as_json():
    model = GPT(GPTConfig(16, 9, 1, 2, 8))
    model.lm_head.weight.data.fill_(math.nan)
    seen = ProgressMeasures(model.config, [[1] * 16]).observe(model)
    assert json.loads(json.dumps(seen, allow_nan=False)) == seen
    assert seen["gain"]["value"] is None
    assert events_in([{"step": 0, **seen}]) == []


# --- the loss -----------------------------------------------------------------------------------------------


def observed(losses, every=40):
    """Observations of nothing but a loss curve."""
    return [{"step": at, "losses": loss_bins(range(at - every, at), losses[at - every : at])}
            for at in range(every, len(losses) + 1, every)]


def noisy(curve, seed=0):
    return curve + 0.02 * np.random.default_rng(seed).standard_normal(len(curve))


def test_a_plateau_and_the_drop_after_it():
    steps = np.arange(1600)
    curve = 3.4 - 1.4 / (1 + np.exp(-(steps - 900) / 30))
    found = events_in(observed(noisy(curve)))
    names = [event.name for event in found]
    assert names[:2] == ["loss_plateau", "loss_drop"]
    assert found[0].step <= 200
    assert 820 <= found[1].step <= 960
    assert "plateau of 3." in found[1].evidence


@pytest.mark.parametrize("seed", range(5))
def test_a_power_law_is_no_plateau(seed):
    steps = np.arange(1, 2001)
    assert events_in(observed(noisy(4 * steps**-0.15, seed))) == []


def test_a_loss_that_falls_slowly_is_no_plateau():
    """Means of an induction run whose learning rate rises for 100 steps: 3.53 at first, 3.33 at step 200."""
    early = [3.507, 3.527, 3.517, 3.504, 3.485, 3.504, 3.509, 3.493]  # of steps 8 to 15: 0.5 % lower, 0.5 % by chance
    slow = [3.434, 3.418, 3.419, 3.422, 3.413, 3.421, 3.407, 3.412]  # of steps 64 to 127: 0.3 % lower, 0.3 % by chance
    history = [{"step": step, "losses": [[at, at + wide, mean] for at, mean in zip(range(step // 2, step, wide), means,
                                                                                   strict=True)]}
               for step, wide, means in ((16, 1, early), (128, 8, slow))]
    assert events_in(history) == []
    level = [3.41, 3.42, 3.43, 3.42, 3.42, 3.43, 3.41, 3.42]
    (event,) = events_in([history[0], {"step": 128, "losses": [[64 + 8 * i, 72 + 8 * i, one] for i, one in
                                                               enumerate(level)]}])
    assert (event.name, event.step, event.more) == ("loss_plateau", 128, {"first": 64})
    assert event.evidence.startswith("From step 64 to 128 the loss stayed at 3.420 nats")


def test_noise_alone_never_drops():
    names = [event.name for event in events_in(observed(noisy(np.full(2000, 3.0))))]
    assert names == ["loss_plateau"]


def test_losses_that_are_not_finite_leave_the_bins():
    assert loss_bins([0, 1], [math.nan, math.inf]) == []


def test_the_recorder_says_where_nan_began(data, run_dir):
    model = GPT(GPTConfig(16, data.vocab_size, 2, 2, 16))
    recorder = Recorder(model, data.tokenizer, PROBES, run_dir)
    recorder.step(0, loss=3.0)
    model.transformer.h[1].mlp.c_fc.weight.data[0, 0] = math.inf
    recorder.step(1, loss=math.nan)
    recorder.step(2, loss=math.nan)
    recorder.close()
    (event,) = [event for event in recorder.run.events if event["name"] == "nonfinite_loss"]
    assert (event["step"], event["first"]) == (1, "transformer.h.1.mlp.c_fc.weight")
    assert "shows first in transformer.h.1.mlp.c_fc.weight" in event["evidence"]
