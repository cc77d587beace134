"""Patching sweeps against one forward pass per cell under `intervene`, path patching against passes with all frozen."""

import functools
from dataclasses import replace

import numpy as np
import pytest
import torch

from gptviz.analysis.patching import SWEPT, AtPosition, activation_patching, logit_difference, path_patching
from gptviz.interventions import ablate_mlp, intervene, patch
from gptviz.model import GPT, GPTConfig
from gptviz.naming import AXES, UnknownNameError
from gptviz.trace import record

CLEAN = [3, 1, 4, 1, 5, 9]
CORRUPTED = [3, 8, 4, 0, 5, 2]
LAST = logit_difference(7, 2)


CONFIG = GPTConfig(block_size=8, vocab_size=11, n_layer=3, n_head=2, n_embd=8)


def make_model(config=CONFIG):
    torch.manual_seed(0)
    model = GPT(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(8).add_(0.1 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture
def model():
    return make_model()


def logits_of(model, ids, *edits):
    idx = torch.tensor([ids])
    with torch.no_grad(), intervene(model, *edits, allow_unchanged=True):
        return model(idx, idx)[0]


def metric_of(model, ids, metric):
    return float(metric(logits_of(model, ids)))


@functools.cache
def cells_by_loop(config, name):
    """The logits of one forward pass per cell, cell by cell, and the shape of the grid."""
    model = make_model(config)
    source = record(model, CLEAN)
    grid = (config.n_layer, config.n_head, len(CLEAN)) if "head" in AXES[name] else (config.n_layer, len(CLEAN))
    edits = [patch(source, name, layer, *head, positions=at) for layer, *head, at in np.ndindex(grid)]
    return grid, [logits_of(model, CORRUPTED, edit) for edit in edits]


def by_loop(config, metric, name):
    grid, cells = cells_by_loop(config, name)
    return np.array([float(metric(logits)) for logits in cells]).reshape(grid)


def mean_of_all(logits):
    return logits.log_softmax(-1)[..., 3].mean(-1)


METRICS = {"last": LAST, "middle": logit_difference(1, 2, position=3), "all positions": mean_of_all}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("name", SWEPT)
def test_a_sweep_equals_the_loop_cell_by_cell(model, name, metric):
    sweep = activation_patching(model, CLEAN, CORRUPTED, metric, names=name)
    expected = by_loop(CONFIG, metric, name)
    np.testing.assert_allclose(sweep.values[name], expected, rtol=1e-5, atol=1e-5)
    assert sweep.clean == pytest.approx(metric_of(model, CLEAN, metric), rel=1e-5)
    assert sweep.corrupted == pytest.approx(metric_of(model, CORRUPTED, metric), rel=1e-5)
    assert np.ptp(expected) > 1e-2  # the cells differ


OTHERS = {"bias": False}, {"activation": "gelu_tanh", "tie_weights": False, "dropout": 0.5}


@pytest.mark.parametrize("changes", OTHERS)
def test_a_sweep_of_other_models(changes):
    config = replace(CONFIG, **changes)
    sweep = activation_patching(make_model(config).train(), CLEAN, CORRUPTED, LAST)
    assert list(sweep.values) == ["resid_pre", "z", "attn_out", "mlp_out"]
    for name, values in sweep.values.items():
        np.testing.assert_allclose(values, by_loop(config, LAST, name), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("max_bytes", [5_000, 20_000])
def test_smaller_batches_give_the_same(model, max_bytes, metric):
    whole = activation_patching(model, CLEAN, CORRUPTED, metric, names=SWEPT)
    small = activation_patching(model, CLEAN, CORRUPTED, metric, names=SWEPT, max_bytes=max_bytes)
    for name in SWEPT:
        np.testing.assert_allclose(small.values[name], whole.values[name], rtol=1e-5, atol=1e-5)


def test_a_sweep_of_some_cells(model):
    whole = activation_patching(model, CLEAN, CORRUPTED, LAST, names=["z", "mlp_out"])
    part = activation_patching(
        model, CLEAN, CORRUPTED, LAST, names="blocks.*.attn.hook_z", layers=[0, 2], heads=-1, positions=slice(3, None)
    )
    assert (part.layers, part.heads, part.positions) == ((0, 2), (1,), (3, 4, 5))
    np.testing.assert_allclose(part.values["z"], whole.values["z"][[0, 2]][:, [1], 3:], rtol=1e-5, atol=1e-5)


def test_patching_the_same_text_changes_nothing(model):
    sweep = activation_patching(model, CLEAN, CLEAN, LAST, names=SWEPT)
    for values in sweep.values.values():
        np.testing.assert_allclose(values, sweep.clean, rtol=1e-5)
    with pytest.raises(ValueError, match="must differ in the metric"):
        sweep.recovered()


def test_the_only_different_position_brings_back_everything(model):
    corrupted = [*CLEAN[:2], 8, *CLEAN[3:]]
    sweep = activation_patching(model, CLEAN, corrupted, LAST, names="resid_pre")
    assert sweep.recovered()["resid_pre"][0, 2] == pytest.approx(1, abs=1e-4)
    np.testing.assert_allclose(sweep.recovered()["resid_pre"][0, [0, 1, 3, 4, 5]], 0, atol=1e-4)


def test_what_the_metric_does_not_read_stays(model):
    sweep = activation_patching(model, CLEAN, CORRUPTED, logit_difference(1, 2, position=3), names="z")
    assert (sweep.values["z"][:, :, 4:] == sweep.corrupted).all()


# --- path patching ---------------------------------------------------------------------------------------------------


@functools.cache
def path_by_hand(layer, head, receivers, positions=None):
    """Two passes: everything frozen but the sender, to see what receivers read; then only that is patched."""
    model = make_model()
    source, base = record(model, CLEAN), record(model, CORRUPTED)
    frozen = [patch(base, "mlp_out"), patch(base, "z"), patch(source, "z", layer, head, positions)]
    with intervene(model, *frozen, allow_unchanged=True):
        direct = record(model, CORRUPTED)
    if receivers == "logits":
        return direct["logits"][None]
    return logits_of(model, CORRUPTED, *(patch(direct, part, at, h) for at, h, part in receivers))


RECEIVERS = {
    "one key": ((2, 0, "k"),),
    "query": ((1, 1, "q"),),
    "several layers": ((1, 0, "v"), (2, 1, "q"), (2, 1, "k")),
    "logits": "logits",
}


@pytest.mark.parametrize("metric", METRICS.values(), ids=METRICS)
@pytest.mark.parametrize("case", RECEIVERS)
def test_path_patching_equals_passes_with_everything_else_frozen(model, case, metric):
    receivers = RECEIVERS[case]
    sweep = path_patching(model, CLEAN, CORRUPTED, metric, receivers)
    for layer, head in np.ndindex(3, 2):
        last = 3 if receivers == "logits" else max(at for at, _, _ in receivers)
        if layer < last:
            expected = float(metric(path_by_hand(layer, head, receivers)))
            assert sweep.values[layer, head] == pytest.approx(expected, rel=1e-5, abs=1e-5)
        else:
            assert np.isnan(sweep.values[layer, head])


@pytest.mark.parametrize("how", [dict(receivers=[(0, 1, "q")]), dict(receivers="logits", senders=[])], ids=str)
def test_path_patching_without_a_sender_is_refused(model, how):
    with pytest.raises(ValueError, match=r"There must be at least one sender, but there is none: no head writes"):
        path_patching(model, CLEAN, CORRUPTED, LAST, **how)


def test_path_patching_of_chosen_senders_and_positions(model):
    receivers = ((2, 0, "v"),)
    sweep = path_patching(model, CLEAN, CORRUPTED, LAST, receivers, senders=[(1, 0)], positions=[1, 3], max_bytes=1)
    expected = float(LAST(path_by_hand(1, 0, receivers, (1, 3))))
    assert sweep.values[1, 0] == pytest.approx(expected, rel=1e-5)
    assert np.isnan(sweep.values).sum() == 5
    share = (sweep.values[1, 0] - sweep.corrupted) / (sweep.clean - sweep.corrupted)
    assert sweep.recovered()[1, 0] == pytest.approx(share)


# --- what is refused, what is left -----------------------------------------------------------------------------------

WRONG = {
    "name": ({"names": "ln_1"}, UnknownNameError, "A sweep can patch .* but not 'ln_1'"),
    "no name": ({"names": "zz"}, UnknownNameError, "matches no activation"),
    "name of a layer": ({"names": "z.1"}, UnknownNameError, r"choose them with layers=, not in 'z\.1'"),
    "their name": ({"names": "blocks.1.attn.hook_z"}, UnknownNameError, "choose them with layers="),
    "layer": ({"layers": 3}, UnknownNameError, "There is no layer 3"),
    "head": ({"heads": 2}, UnknownNameError, "There is no head 2"),
    "position": ({"positions": 6}, UnknownNameError, "There is no position 6"),
    "lengths": ({"clean_ids": [1, 2]}, ValueError, "same number of tokens, so that positions match, but have 2 and 6"),
    "several": ({"clean_ids": [[1, 2], [3, 4]]}, ValueError, "but one is a list of 2 texts"),
    "metric position": ({"metric": logit_difference(1, 2, position=6)}, UnknownNameError, "There is no position 6"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_does_not_exist_is_refused(model, case):
    changes, error, message = WRONG[case]
    with pytest.raises(error, match=message):
        activation_patching(**dict(model=model, clean_ids=CLEAN, corrupted_ids=CORRUPTED, metric=LAST) | changes)


@pytest.mark.parametrize("metric", [lambda logits: logits.sum(), lambda logits: logits[:, -1], lambda logits: 1.0])
def test_a_metric_gives_one_number_per_text(model, metric):
    with pytest.raises(ValueError, match=r"must give one number per text, \[batch\], but for one text gave"):
        activation_patching(model, CLEAN, CORRUPTED, metric)


def test_a_metric_gives_one_number_for_each_text_of_a_batch(model):
    with pytest.raises(ValueError, match=r"\[batch\], but for \d\d texts gave shape \(1,\)"):
        activation_patching(model, CLEAN, CORRUPTED, lambda logits: logits[0, -1, 3][None], names="z")


def test_a_metric_may_count(model):
    sweep = activation_patching(model, CLEAN, CORRUPTED, lambda logits: logits[:, -1].argmax(-1), names="z")
    assert sweep.values["z"].dtype == np.float64
    assert set(sweep.values["z"].flat) <= set(range(11))


def test_a_name_from_an_iterator_is_swept(model):
    assert set(activation_patching(model, CLEAN, CORRUPTED, LAST, names=iter(["z", "q"])).values) == {"z", "q"}


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(model, value):
    """torch's fused attention answers a query that is NaN with 0: a sweep would give finite numbers."""
    with torch.no_grad():
        model.transformer.h[1].attn.c_attn.weight[0, 0] = value
    with pytest.raises(ValueError, match=r"but transformer\.h\.1\.attn\.c_attn\.weight holds NaN or infinity"):
        activation_patching(model, CLEAN, CORRUPTED, LAST)


def test_a_sweep_refuses_to_pass_edits_over(model):
    with pytest.raises(ValueError, match="hooks would not see"), intervene(model, ablate_mlp(0)):
        activation_patching(model, CLEAN, CORRUPTED, LAST)


PATHS = {
    "word": ({"receivers": "loss"}, UnknownNameError, 'Receivers must be "logits" or'),
    "part": ({"receivers": [(1, 0, "z")]}, UnknownNameError, "not by 'z'"),
    "nobody": ({"receivers": []}, ValueError, "at least one receiver"),
    "layer": ({"receivers": [(3, 0, "q")]}, UnknownNameError, "There is no layer 3"),
    "late": ({"senders": [(1, 1)]}, ValueError, "head 1 of layer 1 is not: the last receiver is in layer 1"),
}


@pytest.mark.parametrize("case", PATHS)
def test_path_patching_refuses_what_is_no_path(model, case):
    changes, error, message = PATHS[case]
    with pytest.raises(error, match=message):
        path_patching(model, CLEAN, CORRUPTED, LAST, **dict(receivers=[(1, 0, "q")]) | changes)


def test_a_sweep_leaves_the_model_and_the_random_state(model):
    model.train()
    before, state = {name: value.clone() for name, value in model.state_dict().items()}, torch.get_rng_state()
    activation_patching(model, torch.tensor(CLEAN), torch.tensor(CORRUPTED), LAST)
    assert all(module.training for module in model.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert all(parameter.grad is None for parameter in model.parameters())


def test_metrics():
    logits = torch.randn(4, 5, 11)
    assert torch.equal(logit_difference(7, 2)(logits), logits[:, -1, 7] - logits[:, -1, 2])
    assert torch.equal(logit_difference(7, 2, position=1)(logits), logits[:, 1, 7] - logits[:, 1, 2])
    assert torch.equal(AtPosition(lambda at: at[:, 0], 2)(logits), logits[:, 2, 0])
