"""What a run takes on the disk is known before its first step, and kept within its budget."""

import pytest

from gptviz.corpora import TextData
from gptviz.runs import schedule
from gptviz.runs.cadence import thinned
from gptviz.training import TrainConfig, train
from gptviz.training.budget import plan_recording

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. " * 30


@pytest.fixture(scope="module")
def data():
    return TextData.from_text(TEXT)


def small(data, **changes) -> TrainConfig:
    fields = dict(corpus=data, n_layer=2, n_head=2, n_embd=64, block_size=32, batch_size=2, max_iters=60,
                  warmup_iters=5, eval_interval=30, eval_iters=1, threads=1)
    return TrainConfig(**fields | changes)


def parameters(run) -> int:
    weights = run.weights()
    return sum(value.size for name, value in weights.items() if name != "lm_head.weight")


@pytest.mark.parametrize("changes", [{}, {"record": False}, {"record_steps": [0, 7, 60]}, {"max_megabytes": 4},
                                     {"max_megabytes": 1}])
def test_the_estimate_is_what_is_written(data, changes):
    config = small(data, **changes)
    run = train(config, progress=False)
    plan = plan_recording(config, parameters(run), 32, len(run.probes))
    assert run.nbytes == pytest.approx(plan.nbytes, rel=0.15)
    assert run.steps == sorted({*plan.steps, 60})
    assert run.resume_steps[-1] == 60
    run.close()


def test_a_budget_drops_optimizer_states_before_steps(data):
    full, some, few = (plan_recording(small(data, max_megabytes=mb), 100_000, 32) for mb in (2000, 6, 4))
    assert list(full.steps) == list(some.steps) == schedule(60)
    assert len(some.resume_steps) < len(full.resume_steps)
    assert 2 < len(few.steps) < len(full.steps)
    assert few.steps[0] == 0
    assert few.steps[-1] == 60
    assert few.nbytes <= 4e6 < some.nbytes <= 6e6 < full.nbytes


def test_steps_that_were_asked_for_are_kept_whatever_they_take(data):
    plan = plan_recording(small(data, max_megabytes=1, record_steps=range(61)), 100_000, 32)
    assert plan.steps == tuple(range(61))


def test_a_budget_of_nothing_is_refused(data):
    with pytest.raises(ValueError, match="max_megabytes must be a whole number of at least 1; 0 was given"):
        small(data, max_megabytes=0)


def test_thinning_keeps_the_ends():
    assert thinned(range(100), 5) == [0, 25, 50, 74, 99]
    assert thinned([3], 5) == [3]
