from types import SimpleNamespace

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from gptviz.dashboards import curve_view, explore, report, trace_views, watch
from gptviz.loading import load
from gptviz.model import GPT, GPTConfig
from gptviz.tokenizers import CharTokenizer
from gptviz.trace import record
from gptviz.training import TrainConfig, train
from gptviz.views.attention import full_pattern

TEXT = "the cat sat on the mat. "


@pytest.fixture(scope="module")
def tokenizer():
    return CharTokenizer(TEXT)


@pytest.fixture(scope="module")
def model(tokenizer):
    torch.manual_seed(0)
    return GPT(GPTConfig(block_size=16, vocab_size=tokenizer.vocab_size, n_layer=2, n_head=2, n_embd=8)).eval()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    corpus = tmp_path_factory.mktemp("corpus") / "cat.txt"
    corpus.write_text(TEXT * 80)
    return train(TrainConfig(corpus=str(corpus), n_layer=2, n_head=2, n_embd=8, block_size=16, batch_size=4,
                             max_iters=12, eval_interval=6, eval_iters=1, warmup_iters=1, probes=[TEXT[:12]], threads=1,
                             out=str(corpus.parent / "run")), progress=False)


def test_views_show_what_the_model_computed(model, tokenizer):
    trace = record(model, TEXT[:12], tokenizer)
    heads, text = trace_views(trace, tokenizer)
    np.testing.assert_array_equal(full_pattern(heads), trace["pattern"].numpy())
    logits = model(trace.ids[None], targets=trace.ids[None])[0][0].detach()
    expected = F.cross_entropy(logits[:-1], trace.ids[1:], reduction="none").numpy()
    np.testing.assert_allclose(text.arrays["loss"][1:], expected, atol=1e-6)
    top = torch.topk(logits.softmax(-1), 5)
    np.testing.assert_allclose(text.arrays["top_probs"], top.values.numpy(), atol=1e-6)
    words = np.array(text.labels["word"])[text.arrays["top_words"]]
    assert words[0].tolist() == [tokenizer.visible(int(i)) for i in top.indices[0]]
    place = (logits[:-1].argsort(descending=True) == trace.ids[1:, None]).int().argmax(1) + 1
    np.testing.assert_array_equal(text.arrays["rank"], [0, *place.tolist()])
    assert all(check.passed for check in heads.checks)


def test_explore_runs_another_text(model, tokenizer):
    board = explore(record(model, "the cat", tokenizer), model, tokenizer, title="cat")
    answer = board._said(board._frame, {"step": None, "text": "sat on"})
    assert answer["frame"]["views"][0]["labels"]["token"] == ["s", "a", "t", "·", "o", "n"]
    assert "reads at most 16" in board._said(board._frame, {"step": None, "text": TEXT})["error"]
    assert board.picture().startswith(b"\x89PNG")


def test_explore_marks_the_tokens_that_a_task_only_gives():
    model, tokenizer = load("sorter")
    trace = record(model, "CABBACAABBCC"[:11], tokenizer)
    of = {view.kind: view for view in trace_views(trace, tokenizer, model=model)}
    assert of["tokens"].content["given"] == 6
    (alone,) = [view for view in trace_views(trace, tokenizer) if view.kind == "tokens"]
    assert "given" not in alone.content  # no model to ask


def test_explore_errors(model, tokenizer):
    with pytest.raises(ValueError, match="the model is missing"):
        explore(record(model, "the", tokenizer), tokenizer=tokenizer)
    with pytest.raises(ValueError, match="'heads' needs pattern of the trace"):
        explore(record(model, "the", tokenizer, names=["logits"]))
    with pytest.raises(ValueError, match=r"views must be some of heads, .*text"):
        explore(record(model, "the", tokenizer), views=["head"])
    with pytest.raises(ValueError, match="A board needs all 2 layers"):
        explore(record(model, "the", tokenizer, layers=[0]))


def test_watch_shows_recorded_bytes_and_recomputes_other_texts(run):
    board = watch(run)
    assert board.steps == run.steps
    snapshot = run.snapshot(run.steps[1])
    heads, text, *others = board.source(run.steps[1], board.text)
    curve = next(view for view in others if view.kind == "training")
    np.testing.assert_array_equal(heads.arrays["pattern"], snapshot.pattern)
    np.testing.assert_array_equal(text.arrays["loss"], snapshot.loss)
    assert heads.checks[0].passed
    other = board.source(run.steps[1], "sat on")
    np.testing.assert_array_equal(full_pattern(other[0]), run.record("sat on", step=run.steps[1])["pattern"].numpy())
    assert any(view is curve for view in other)


def test_curve_has_both_losses_and_keeps_nan(run):
    curve = curve_view(run)
    metrics = run.metrics()
    assert curve.labels["series"] == ("train", "validation")
    np.testing.assert_allclose(curve.arrays["values_0"], metrics["loss"][np.isfinite(metrics["loss"])], rtol=1e-6)
    assert len(curve.arrays["steps_1"]) == int(np.isfinite(metrics["val_loss"]).sum())


def test_a_long_curve_keeps_its_spikes_and_what_is_not_finite():
    n = 50_001
    loss = 2 + 0.1 * np.random.default_rng(0).standard_normal(n)
    loss[12_345], loss[33_333], loss[777], loss[40_001] = 9.0, -1.0, np.nan, np.inf
    metrics = {"step": np.arange(n), "loss": loss, "nonfinite": ~np.isfinite(loss)}
    run = SimpleNamespace(metrics=lambda: metrics, nonfinite_steps=lambda name: np.flatnonzero(~np.isfinite(loss)))
    curve = curve_view(run)
    steps, values = curve.arrays["steps_0"], curve.arrays["values_0"]
    assert {0, 777, 12_345, 33_333, 40_001, n - 1} <= set(steps.tolist())
    assert len(steps) <= 4004
    np.testing.assert_array_equal(values, loss[steps].astype(np.float32))
    metrics |= {"loss": np.full(n, np.nan), "nonfinite": np.ones(n, bool)}
    run.nonfinite_steps = lambda name: metrics["step"]
    assert len(curve_view(run).arrays["steps_0"]) == n


def test_report_is_one_page(run, tmp_path, capsys):
    path = report(run, tmp_path / "report.html")
    assert path.read_text(encoding="utf-8").count('"step":') > len(run.steps)
    with pytest.raises(ValueError, match="one of the run's 1 probe texts"):
        watch(run, probe=3)
