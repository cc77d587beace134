"""What a run shows over all its steps: the scores of its heads and how its numbers are spread."""

import json

import numpy as np
import pytest
import torch
from golden import make_golden

from gptviz.analysis.distributions import MOST, SHARES, distributions, quantiles
from gptviz.corpora import TextData
from gptviz.dashboards import watch
from gptviz.dashboards.progress import Progress
from gptviz.figures import figure
from gptviz.model import GPT, GPTConfig
from gptviz.runs import open_run
from gptviz.trace import record
from gptviz.training import Recorder, TrainConfig, train
from gptviz.views import distributions_view, head_curves_view, summary
from gptviz.views.board import payload_json
from gptviz.views.head_curves import MOST_NUMBERS, Curves

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. " * 30


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("progress") / "run"
    return train(TrainConfig(corpus=TextData.from_text(TEXT), n_layer=2, n_head=2, n_embd=16, block_size=16,
                             batch_size=4, max_iters=20, eval_interval=20, eval_iters=1, threads=1, out=out,
                             record_steps=(0, 5, 10, 20)), progress=False)


# --- measuring ------------------------------------------------------------------------------------------------


def test_quantiles_of_few_values_are_those_of_numpy():
    values = torch.randn(30, 20, generator=torch.Generator().manual_seed(0))
    expected = np.quantile(values.numpy(), SHARES, method="nearest")
    np.testing.assert_allclose(quantiles([values])[0], expected, rtol=1e-3)


def test_quantiles_of_many_values_are_near_and_their_ends_exact():
    values = torch.randn(512, 128, generator=torch.Generator().manual_seed(0))
    values[3, 5], values[200, 7] = 9.0, -9.0
    assert values.numel() > MOST
    found = quantiles([values])[0]
    assert (found[0], found[-1]) == (-9.0, 9.0)
    below = [(values < one).float().mean().item() for one in found]
    np.testing.assert_allclose(below[1:-1], SHARES[1:-1], atol=0.04)


def test_a_column_that_differs_is_met_by_the_sample():
    values = torch.zeros(512, 128)
    values[:, ::8] = 1.0  # an eighth of the columns, so more than 5 % of the values
    assert quantiles([values])[0][-2] == 1.0


def test_values_that_are_not_finite_are_left_out():
    assert quantiles([torch.tensor([[1.0, torch.nan, torch.inf, 3.0]])])[0][::6] == [1.0, 3.0]
    assert quantiles([torch.full((2, 2), torch.nan), None]) == [[None] * 7, [None] * 7]


def test_weights_gradients_and_activations_are_those_of_the_model():
    torch.manual_seed(0)
    model = GPT(GPTConfig(block_size=8, vocab_size=9, n_layer=2, n_head=2, n_embd=8, tie_weights=False))
    traces = record(model, [[1, 2, 3], [4, 5, 6]], names=("attn_out", "mlp_out", "resid_post"))
    assert set(distributions(model, traces)) == {"weights", "activations"}  # no gradient yet
    x = torch.tensor([[1, 2, 3, 4]])
    model(x, x)[1].backward()
    found = distributions(model, traces)
    assert np.shape(found["weights"]["mlp.c_fc"]) == (2, 7)
    assert np.shape(found["weights"]["lm_head"]) == (1, 7)
    block = model.transformer.h[1]
    highest = block.attn.c_proj.weight.grad.max().item()
    assert found["gradients"]["attn.c_proj"][1][6] == pytest.approx(highest, rel=1e-3)
    values = torch.cat([trace["resid_post", 1] for trace in traces])
    assert found["activations"]["resid_post"][1][0] == pytest.approx(values.min().item(), rel=1e-3)


# --- in a run -------------------------------------------------------------------------------------------------


def test_a_run_keeps_them_by_step(run):
    found = open_run(run.path).distributions()
    assert found["step"].tolist() == run.steps == [0, 5, 10, 20]
    weights = run.weights(10)["transformer.h.1.mlp.c_fc.weight"]
    np.testing.assert_allclose(found["weights/mlp.c_fc"][2, 1, [0, 6]], [weights.min(), weights.max()], rtol=1e-3)
    gradients = found["gradients/wte"][:, 0, 6]
    assert np.isnan(gradients[0])  # before the first update
    assert (gradients[1:] > 0).all()
    assert found["activations/resid_post"].shape == (4, 2, 7)


def test_a_loop_of_ones_own_that_drops_its_gradients_has_none(tmp_path):
    model = GPT(GPTConfig(block_size=8, vocab_size=9, n_layer=1, n_head=1, n_embd=8))
    with Recorder(model, None, [[1, 2, 3]], tmp_path / "run") as recorder:
        recorder.step(0, loss=1.0)
    names = set(recorder.run.distributions())
    assert "weights/wte" in names
    assert not [name for name in names if name.startswith("gradients/")]


def test_views_are_made_again_only_when_something_was_recorded(run):
    progress = Progress(open_run(run.path))
    first = progress.views()
    assert [view.kind for view in first] == ["events", "head_curves", "distributions"]
    assert progress.views() is first


def test_head_curves_are_the_observed_scores_and_the_probes_entropy(run):
    view = next(view for view in watch(run.path).views if view.kind == "head_curves")
    scores, names = run.head_scores(), view.labels["score"]
    at = names.index("first_token")
    np.testing.assert_allclose(view.arrays[f"value_{at}"], scores["first_token"], rtol=1e-6)
    np.testing.assert_allclose(view.arrays[f"null_{at}"], scores["null_high/first_token"].max((1, 2)), rtol=1e-6)
    entropy = view.arrays[f"value_{names.index('entropy')}"]
    np.testing.assert_allclose(entropy[1], run.snapshot(5).statistics["entropy"], rtol=1e-6)


def test_a_run_that_observed_nothing_shows_what_its_snapshots_hold():
    view = next(view for view in watch("sorter").views if view.kind == "head_curves")
    run = open_run("sorter")
    assert view.labels["score"] == ("entropy", "previous_token", "first_token")
    np.testing.assert_allclose(view.arrays["value_1"][-1], run.snapshot(600).statistics["previous"], rtol=1e-6)
    assert np.isnan(view.arrays["null_1"]).all()
    assert view.arrays["stands_out"].shape == (0, 3)


def test_a_damaged_snapshot_leaves_the_other_steps(run, tmp_path):
    import shutil

    copy = tmp_path / "copy"
    shutil.copytree(run.path, copy)
    sorted((copy / "snap").iterdir())[1].write_bytes(b"")
    view = next(view for view in Progress(open_run(copy)).views() if view.kind == "head_curves")
    assert view.arrays[f"steps_{view.labels['score'].index('entropy')}"].tolist() == [0, 10, 20]


# --- views ----------------------------------------------------------------------------------------------------


def test_a_head_is_named_once_by_its_clearest_score():
    steps, even = np.array([0, 10]), np.zeros((2, 1, 3))
    one = even.copy()
    one[1, 0] = [0.95, 0.2, 0.5]
    other = even.copy()
    other[1, 0] = [0.6, 0.1, 0.9]
    view = head_curves_view([Curves("induction", steps, one, even + 0.1),
                             Curves("first_token", steps, other, even + 0.1), Curves("entropy", steps, other)])
    assert view.arrays["stands_out"].tolist() == [[0, 0, 0], [1, 0, 2]]
    said = summary(view)
    assert said.startswith("Head scores through training: 2 heads stand out at step 10.")
    assert "induction" in said
    assert "0.9500" in said


def test_a_head_is_told_its_own_null():
    """The band is as high as the largest null of all heads; the head that stands out may have another."""
    steps, value, null = np.array([0, 10]), np.zeros((2, 1, 2)), np.zeros((2, 1, 2))
    value[1, 0], null[:, 0] = [0.9, 0.1], [0.05, 0.8]
    view = head_curves_view([Curves("induction", steps, value, null)])
    np.testing.assert_allclose(view.arrays["null_0"], 0.8)
    np.testing.assert_allclose(view.arrays["own_null"], [0.05])
    said = summary(view)
    assert "0.0500" in said
    assert "0.8000" not in said


def test_long_runs_are_thinned_with_both_ends():
    steps = np.arange(0, 5000, 10)
    value = np.zeros((500, 12, 12))
    view = head_curves_view([Curves("induction", steps, value, value), Curves("entropy", steps, value)])
    assert sum(view.arrays[f"value_{i}"].size for i in (0, 1)) <= MOST_NUMBERS
    assert view.arrays["steps_0"][[0, -1]].tolist() == [0, 4990]
    parts = {"weights/wte": np.zeros((500, 1, 7)), "weights/attn.c_attn": np.zeros((500, 48, 7))}
    spread = distributions_view(steps, parts)
    assert spread.nbytes < 100_000
    assert spread.arrays["steps"][[0, -1]].tolist() == [0, 4990]
    drawn = len(view.arrays["steps_0"])
    assert view.subtitle == f"0 to 1 · {drawn} of 500 recorded steps, evenly in their order from 0 to 4\u2009990"
    assert spread.subtitle.endswith(f" · {len(spread.arrays['steps'])} of 500 recorded steps, evenly in their order "
                                    "from 0 to 4\u2009990")


def test_a_view_of_every_step_says_nothing_of_thinning_and_one_score_of_two_is_named():
    steps, value = np.array([0, 10, 20]), np.zeros((3, 1, 1))
    whole = Curves("induction", steps, value, value)
    assert head_curves_view([whole, Curves("entropy", steps, value)]).subtitle == "0 to 1"
    some = head_curves_view([whole, Curves("entropy", steps, value, recorded=9)])
    assert some.subtitle == "0 to 1 · entropy: 3 of 9 recorded steps, evenly in their order from 0 to 20"
    assert "evenly" not in distributions_view(steps, {"weights/wte": np.zeros((3, 1, 7))}).subtitle


def test_parts_stand_in_the_order_of_the_model():
    rows = np.zeros((1, 2, 7))
    view = distributions_view(np.array([0]), {"weights/wte": rows[:, :1], "activations/mlp_out": rows,
                                              "weights/attn.c_attn": rows})
    assert [(one["kind"], one["name"]) for one in view.content["parts"]] == [
        ("weights", "attn.c_attn"), ("weights", "wte"), ("activations", "mlp_out")]


def test_errors():
    value = np.zeros((2, 1, 1))
    with pytest.raises(ValueError, match="need at least one score; none was given"):
        head_curves_view([])
    with pytest.raises(ValueError, match=r"induction must be \[step, layer, head\] with rising steps"):
        head_curves_view([Curves("induction", np.array([1, 0]), value)])
    with pytest.raises(ValueError, match="steps of distributions must rise"):
        distributions_view(np.array([1, 0]), {})
    with pytest.raises(ValueError, match=r"weights/wte must be kind/part .* it is \(2, 1, 1\)"):
        distributions_view(np.array([0, 1]), {"weights/wte": value})


def test_golden_payload_is_what_python_writes():
    written = json.loads((make_golden.HERE / "progress.json").read_text(encoding="utf-8"))
    assert json.loads(payload_json(make_golden.golden_progress())) == written


def test_the_figure_draws_the_curves_of_the_heads():
    steps, value = np.array([0, 5, 10]), np.array([[[0.1, 0.2]], [[0.1, 0.4]], [[0.1, 0.9]]])
    axes = figure(head_curves_view([Curves("induction", steps, value, 0 * value + 0.25)])).axes[0]
    (line,) = axes.lines
    np.testing.assert_allclose(line.get_xydata(), [[0, 0.2], [5, 0.4], [10, 0.9]], rtol=1e-6)
    assert [words.get_text() for words in axes.texts] == ["induction L0H1 0.90"]
    (band,) = axes.collections
    assert band.get_datalim(axes.transData).intervaly.tolist() == [0, 0.25]


def test_the_figure_speaks_of_chance_only_where_it_is_drawn():
    steps, value = np.array([0, 10]), np.array([[[0.1, 0.2]], [[0.1, 0.9]]])
    banded = figure(head_curves_view([Curves("induction", steps, value, 0 * value + 0.25)])).axes[0]
    assert banded.get_xlabel() == "step; hatched: 97.5 % of chance is below"
    bare = figure(head_curves_view([Curves("entropy", steps, value)])).axes[0]
    assert bare.get_xlabel() == "step"
    assert bare.get_title(loc="left").endswith("not compared with chance in this run")
    quiet = figure(head_curves_view([Curves("induction", steps, 0 * value, 0 * value + 0.25)])).axes[0]
    assert quiet.get_title(loc="left").endswith("no head stands out yet")


def test_of_a_run_that_observed_nothing_no_head_is_said_to_stand_out_or_not():
    view = next(view for view in watch("sorter").views if view.kind == "head_curves")
    assert summary(view) == "Head scores through training: not compared with chance in this run, the last step is 600."


def test_every_part_that_a_run_keeps_is_explained(run):
    view = next(view for view in watch(run.path).views if view.kind == "distributions")
    assert [part["name"] for part in view.content["parts"] if not part["words"]] == []


def test_a_curve_that_ends_in_nan_says_so():
    value = np.array([[[0.1, 0.2]], [[0.6, np.nan]]])
    axes = figure(head_curves_view([Curves("entropy", np.array([0, 10]), value)])).axes[0]
    assert [words.get_text() for words in axes.texts] == ["entropy L0H0 0.60", "entropy L0H1 NaN"]


def test_the_figure_draws_the_bands_of_each_part(run):
    view = next(view for view in watch(run.path).views if view.kind == "distributions")
    weights = {"L0 attn.c_attn": ("attn.c_attn", 0), "L1 mlp.c_proj": ("mlp.c_proj", 1), "wte": ("wte", 0)}
    drawn = {axes.get_title(loc="left"): axes for axes in figure(view).axes}
    for title, (part, row) in weights.items():
        values, (wide, narrow) = run.distributions()[f"weights/{part}"][:, row], drawn[title].collections
        np.testing.assert_allclose(drawn[title].lines[0].get_ydata(), values[:, 3], rtol=1e-6)
        for band, low, high in ((wide, 1, 5), (narrow, 2, 4)):
            reach = band.get_datalim(drawn[title].transData).intervaly
            np.testing.assert_allclose(reach, [values[:, low].min(), values[:, high].max()], rtol=1e-5)


def test_distributions_in_words(run):
    view = next(view for view in watch(run.path).views if view.kind == "distributions")
    said = summary(view)
    assert said.startswith("Distributions through training: 4 steps, the last 20.")
    assert "gradients    L1 mlp.c_proj" in said
