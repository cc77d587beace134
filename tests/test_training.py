"""Training: nanoGPT's numbers, recorded without a trace, resumed to the bit."""

import dataclasses
import json
import math
import tempfile
import time

import numpy as np
import pytest
import torch
from small_training import TEXT, small

from gptviz.corpora import TextData
from gptviz.dashboards.over_steps import recorded_over_steps
from gptviz.dashboards.watch import curve_view
from gptviz.model import GPT
from gptviz.runs import open_run
from gptviz.training import Recorder, TrainConfig, learning_rate, make_optimizer, train
from gptviz.training.progress import Pace, Progress
from gptviz.training.threads import Threads


@pytest.fixture(scope="module")
def data():
    return TextData.from_text(TEXT)


def assert_same_scalars(a, b) -> None:
    ours, theirs = a.metrics(), b.metrics()
    assert ours.keys() == theirs.keys()
    for name in theirs:
        assert ours[name].tobytes() == theirs[name].tobytes(), name


# --- the numbers --------------------------------------------------------------------------------------------


def test_training_is_the_plain_loop(data):
    """The same batches, weights and learning rates through stock AdamW give the same losses."""
    config = small(data, dropout=0.0, grad_clip=0.5)
    run = train(config, progress=False)
    torch.manual_seed(config.seed)
    model = GPT(config.model_config(data.vocab_size, 16))
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    others = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=1.0, betas=(0.9, 0.99), foreach=False, fused=False)
    offset, losses = float(np.random.Generator(np.random.PCG64([config.seed, 3])).random()), []
    for step in range(config.max_iters):
        x, y = (torch.from_numpy(part) for part in data.even_batch(4 * step, 4, 16, offset))
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(config, step)
        _, loss = model(x, y)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
        optimizer.step()
        losses.append(loss.item())
    np.testing.assert_allclose(run.metrics()["loss"][:-1], losses, rtol=2e-6)
    run.close()


def test_recording_does_not_change_the_training(data, monkeypatch):
    monkeypatch.setattr("gptviz.runs.writer.LONGEST_WAIT", 300.0)  # or a slow disk would have steps dropped
    recorded = train(small(data, record_steps=range(31)), progress=False)
    unrecorded = train(small(data, record=False), progress=False)
    assert_same_scalars(recorded, unrecorded)
    last, other = recorded.weights(), unrecorded.weights()
    assert all(last[name].tobytes() == other[name].tobytes() for name in other)
    assert unrecorded.steps == [30]
    assert recorded.steps == list(range(31))
    recorded.close(), unrecorded.close()


def test_training_leaves_torch_as_it_was(data):
    torch.manual_seed(7)
    expected = torch.rand(3)
    torch.manual_seed(7)
    train(small(data, max_iters=2, threads="auto"), progress=False).close()
    assert torch.equal(torch.rand(3), expected)


def test_the_learning_rate_is_nanogpts():
    def nanogpt(it, peak=1e-3, low=1e-4, warmup=100, end=2000):
        if it < warmup:
            return peak * (it + 1) / (warmup + 1)
        if it > end:
            return low
        return low + 0.5 * (1.0 + math.cos(math.pi * (it - warmup) / (end - warmup))) * (peak - low)

    config = TrainConfig(corpus="python-docs")
    rates = [learning_rate(config, step) for step in range(2100)]
    assert rates == pytest.approx([nanogpt(step) for step in range(2100)], rel=1e-12)


def test_matrices_decay_and_vectors_do_not(data):
    config = small(data, bias=True)
    model = GPT(config.model_config(data.vocab_size, 16))
    decayed, others = make_optimizer(model, config).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {p.dim() for p in decayed["params"]} == {2}
    assert {p.dim() for p in others["params"]} == {1}
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_training_learns(data):
    run = train(small(data, max_iters=150, learning_rate=1e-2, dropout=0.0), progress=False)
    val = run.metrics()["val_loss"]
    assert val[-1] < 0.6 * val[0]
    assert val[0] == pytest.approx(math.log(data.vocab_size), abs=0.1)
    run.close()


# --- resume -------------------------------------------------------------------------------------------------


def test_resuming_is_bit_exact_from_every_resume_point(data, tmp_path):
    calm = train(small(data), progress=False)
    run = train(small(data, out=tmp_path / "run", record_steps=range(0, 31, 3)), progress=False)
    assert len(run.resume_steps[:-1]) == 10
    for step in reversed(run.resume_steps[:-1]):
        run.resume(step=step, progress=False)
        assert_same_scalars(run, calm)
        assert run.verify() == []
    weights = run.weights()
    assert all(weights[name].tobytes() == value.tobytes() for name, value in calm.weights().items())
    calm.close()


def test_a_longer_run_keeps_the_schedule_of_the_learning_rate(data, tmp_path):
    run = train(small(data, out=tmp_path / "run", max_iters=10), progress=False)
    run.resume(max_iters=14, progress=False)
    assert run.steps[-1] == 14
    assert run.metrics()["lr"][10:14].tolist() == pytest.approx([1e-4] * 4)
    with pytest.raises(ValueError, match=r"max_iters must be greater than the step to go on from \(14\)"):
        run.resume(progress=False)
    with pytest.raises(ValueError, match=r"step must be one of run.resume_steps .*; 5 was given"):
        open_run(run.path).resume(step=5, max_iters=20)


def test_a_run_goes_on_with_as_many_threads_as_it_is_told(data, tmp_path):
    run = train(small(data, out=tmp_path / "run", max_iters=4), progress=False)
    run.resume(max_iters=6, threads=2, progress=False)
    assert (run.steps[-1], run.summary()["threads"]) == (6, 2)
    run.resume(max_iters=8, progress=False)
    assert run.summary()["threads"] == 2
    with pytest.raises(ValueError, match=r'threads must be "auto" or a whole number from 1 to 1024; 0 was given'):
        run.resume(max_iters=9, threads=0, progress=False)


def test_a_damaged_resume_point_is_passed_over(data, tmp_path):
    run = train(small(data, out=tmp_path / "run"), progress=False)
    first, second = run.resume_steps[-2:]
    (run.path / "ckpt" / f"{second:010d}.opt.safetensors").write_bytes(b"")
    calm = run.metrics()
    assert run.resume_state()[0] == first
    run.resume(max_iters=30, progress=False)
    np.testing.assert_array_equal(run.metrics()["loss"], calm["loss"])


# --- NaN ----------------------------------------------------------------------------------------------------


@pytest.fixture
def poison(monkeypatch):
    """Makes an on_step that puts a NaN into a parameter of the model that is being trained."""
    models = []
    monkeypatch.setattr("gptviz.training.start.GPT", lambda config: models.append(GPT(config)) or models[-1])

    def make(at: int, name: str):
        def on_step(step: int, loss: float) -> None:
            if step == at:
                dict(models[-1].named_parameters())[name].data.view(-1)[0] = float("nan")

        return on_step

    return make


def test_a_loss_that_is_not_finite_is_recorded_flagged_and_shown(data, tmp_path, capsys, poison):
    name = "transformer.h.1.mlp.c_fc.weight"
    run = train(small(data, out=tmp_path / "run", max_iters=8), on_step=poison(3, name))
    metrics = run.metrics()
    assert np.isnan(metrics["loss"][4:8]).all()
    assert metrics["nonfinite"].tolist() == [False] * 4 + [True] * 5
    event = next(event for event in run.events if event["name"] == "nonfinite_loss")
    assert (event["step"], event["first"], event["layer"]) == (4, name, None)
    assert np.isnan(event["loss"])
    shown = capsys.readouterr().err
    assert f"The loss of step 4 is nan; it shows first in {name}." in shown
    assert "NOT FINITE since step 4" in shown
    for line in (tmp_path / "run" / "metrics" / "000000.jsonl").read_text().splitlines():
        json.loads(line[9:], parse_constant=pytest.fail)  # JSON, not JavaScript's NaN
    assert run.status == "finished"


def test_what_came_out_last_is_said_also_if_it_is_no_number(data, tmp_path, poison):
    """Of a run that diverged neither account nor curve nor guesses show its last good numbers as its end."""
    run = train(small(data, out=tmp_path / "run", max_iters=8, eval_interval=2), progress=False,
                on_step=poison(3, "transformer.wte.weight"))
    account = run.summary()
    assert np.isnan([account["loss"], account["val_loss"]]).all()
    assert run.nonfinite_steps("val_loss") == [4, 6, 8]
    curve = curve_view(run)
    assert np.isfinite(curve.arrays["values_1"]).tolist() == [True] * 2 + [False] * 3
    guesses = next(view for view in recorded_over_steps(run, 0) if view.kind == "guesses")
    words = np.array(guesses.labels["word"])[guesses.arrays["guess"]]
    assert (words[-1] == "NaN").all()
    assert (guesses.arrays["right"][-1] == 2).all()
    assert not (words[0] == "NaN").any()


def test_training_can_stop_at_nan(data, tmp_path, poison):
    config = small(data, out=tmp_path / "run", max_iters=20, on_nan="stop")
    run = train(config, progress=False, on_step=poison(3, "transformer.ln_f.weight"))
    assert (run.status, run.steps[-1]) == ("stopped", 4)
    assert run.outcome == 'Stopped at step 4: the loss of step 4 was NaN (on_nan="stop").'


@pytest.mark.parametrize("eval_interval", [4, 50])
def test_a_gradient_that_is_not_finite_is_stopped_before_the_weights_move(data, tmp_path, monkeypatch, eval_interval):
    """The loss is finite, and so stays every weight that is kept; without stopping all of them would be NaN."""
    models, step = [], []

    def make(config):
        models.append(GPT(config))
        models[-1].lm_head.weight.register_hook(lambda gradient: gradient / 0 if step == [0, 1, 2, 3] else gradient)
        return models[-1]

    monkeypatch.setattr("gptviz.training.start.GPT", make)
    kept = {}
    for on_nan in ("stop", "continue"):
        step.clear()
        folder = tmp_path / on_nan
        kept[on_nan] = train(small(data, out=folder, max_iters=8, on_nan=on_nan, eval_interval=eval_interval),
                             progress=False, on_step=lambda at, loss: step.append(at))
    run = kept["stop"]
    assert run.outcome.startswith('Stopped at step 4: the norm of the gradient of step 4 was ')
    assert run.outcome.endswith('(on_nan="stop").')
    assert run.steps[-1] == 4
    assert all(np.isfinite(weight).all() for weight in run.weights().values())
    assert all(np.isfinite(array).all() for name, array in run.resume_state(4)[2].items() if "exp_avg" in name)
    assert np.isfinite(run.metrics()["loss"]).all()
    assert run.nonfinite_steps("grad_norm") == [4]
    assert not all(np.isfinite(weight).all() for weight in kept["continue"].weights().values())


def test_a_stop_at_nan_can_be_resumed_with_the_batch_that_gave_it(tmp_path, monkeypatch):
    """Batch and dropout are drawn again as they were: the steps from there on are those of a run without the NaN."""
    fields = dict(task="sort", n_layer=1, n_head=1, n_embd=8, max_iters=8, threads=1, eval_iters=1, dropout=0.2)
    calm = train(TrainConfig(**fields, out=tmp_path / "calm"), progress=False)
    steps, broken = [], [True]

    def make(config):
        model = GPT(config)
        model.lm_head.weight.register_hook(lambda gradient: gradient / 0 if broken and len(steps) == 3 else gradient)
        return model

    monkeypatch.setattr("gptviz.training.start.GPT", make)
    run = train(TrainConfig(**fields, on_nan="stop", record_steps=[0, 8], out=tmp_path / "run"), progress=False,
                on_step=lambda step, loss: steps.append(step))
    assert (run.status, run.steps[-1]) == ("stopped", 3)
    broken.clear()
    run.resume(progress=False)
    np.testing.assert_array_equal(run.metrics()["loss"], calm.metrics()["loss"])


def test_the_last_line_says_that_the_loss_was_nan(data, tmp_path, poison, capsys):
    train(small(data, out=tmp_path / "run", max_iters=20, on_nan="stop"), on_step=poison(3, "transformer.ln_f.weight"))
    last = capsys.readouterr().err.splitlines()[-1]
    assert last.startswith('Stopped at step 4: the loss of step 4 was NaN (on_nan="stop"). It would come out again')
    assert "resume" not in last


@pytest.mark.parametrize("background", [False, True])
def test_a_torn_line_that_a_resume_cuts_off_is_told_without_a_progress_bar_too(data, tmp_path, background):
    train(small(data, out=tmp_path / "run", max_iters=4), progress=False)
    run = open_run(tmp_path / "run")
    with open(run.path / "journal.jsonl", "ab") as journal:
        journal.write(b"00000000 {")
    with pytest.warns(RuntimeWarning, match="was torn .*10 bytes were cut off. Nothing that was committed is lost"):
        going = run.resume(8, background=background, progress=False)
    if background:
        going.wait()
    assert going.verify() == []


# --- the configuration --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"batch_size": 0}, "batch_size must be a whole number of at least 1; 0 was given"),
        ({"max_iters": -5}, "max_iters must be a whole number of at least 1; -5 was given"),
        ({"learning_rate": float("nan")}, "learning_rate must be a finite number of at least 0; nan was given"),
        ({"learning_rate": float("inf")}, "learning_rate must be a finite number of at least 0; inf was given"),
        ({"min_lr": 1.0}, r"min_lr must be at most learning_rate \(0.001\); 1.0 was given"),
        ({"beta1": 1.0}, "beta1 must be at least 0 and less than 1; 1.0 was given"),
        ({"dropout": 1.0}, "dropout must be at least 0 and less than 1; 1.0 was given"),
        ({"n_head": 3}, "n_embd must be divisible by n_head"),
        ({"n_layer": 0}, "n_layer must be a whole number of at least 1"),
        ({"activation": "relu"}, "activation must be one of"),
        ({"device": "tpu"}, "device must be one of 'auto', 'cpu', 'cuda', 'mps'; 'tpu' was given"),
        ({"threads": 0}, 'threads must be "auto" or a whole number from 1 to 1024; 0 was given'),
        ({"threads": 100_000}, 'threads must be "auto" or a whole number from 1 to 1024; 100000 was given'),
        ({"seed": 2**63}, "seed must be a whole number from 0 to 9223372036854775807; 9223372036854775808 was given"),
        ({"tokenizer": "words"}, "tokenizer must be one of 'char', 'byte', 'bpe', 'gpt2'; 'words' was given"),
        ({"on_nan": "panic"}, "on_nan must be one of 'continue', 'stop'; 'panic' was given"),
        ({"probes": "text"}, r"probes must be a list; the text 'text' was given. Put it into brackets"),
        ({"probes": [""]}, "probes must be texts, none of them empty, or None"),
        ({"record_steps": [31]}, r"record_steps must be at most max_iters \(30\); 31 was given"),
        ({"record_steps": [-1]}, "record_steps must be steps, whole numbers of at least 0, or None"),
        ({"task": "sort"}, "Exactly one of corpus and task must be given"),
        ({"corpus": None}, "Exactly one of corpus and task must be given; neither was"),
    ],
)
def test_each_field_says_what_it_must_be(data, changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        small(data, **changes)


def test_bad_data_and_probes_are_refused_before_anything_is_written(data, tmp_path):
    out = tmp_path / "run"
    with pytest.raises(ValueError, match="A corpus must be one of"):
        train(TrainConfig(corpus="no such corpus", out=out), progress=False)
    (tmp_path / "empty").touch()
    with pytest.raises(ValueError, match="is empty"):
        train(TrainConfig(corpus=tmp_path / "empty", out=out), progress=False)
    with pytest.raises(ValueError, match=r"A probe must have 1 to 16 tokens \(block_size\); probe 0 has 17"):
        train(small(data, probes=["t" * 17], out=out), progress=False)
    with pytest.raises(ValueError, match="É"):
        train(small(data, probes=["É"], out=out), progress=False)
    if not torch.cuda.is_available():
        with pytest.raises(ValueError, match=r"device must be there to be used; 'cuda' was asked for, 'cpu' is there"):
            train(small(data, device="cuda", out=out), progress=False)
    assert not out.exists()


def test_a_run_in_memory_goes_with_its_run(data):
    run = train(small(data, max_iters=1), progress=False)
    folder = run.path
    assert folder.is_dir()
    del run
    assert not folder.exists()


# --- the recorder in somebody else's loop -------------------------------------------------------------------


def test_a_run_in_memory_that_fails_leaves_nothing_behind(data, tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))

    def fail(step, loss):
        assert list(tmp_path.glob("gptviz-*/run.json"))
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        train(small(data), progress=False, on_step=fail)
    assert not list(tmp_path.glob("gptviz-*"))


def test_the_recorder_works_in_a_plain_loop(data, run_dir):
    model = GPT(small(data).model_config(data.vocab_size, 16))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    rng = np.random.default_rng(0)
    recorder = Recorder(model, data.tokenizer, ["the quick"], run_dir)
    for step in range(10):
        x, y = (torch.from_numpy(part) for part in data.batch("train", 4, 16, rng))
        _, loss = model(x, y)
        recorder.step(step, loss=loss.item(), note=1.0)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert recorder.close()
    assert recorder.close()
    run = open_run(run_dir)
    assert (run.status, run.steps, run.probes) == ("finished", [0, 1, 2, 4, 8], ["the quick"])
    assert run.metrics()["note"].tolist() == [1.0] * 10
    assert model.training


def test_the_recorder_needs_a_tokenizer_for_texts(data, run_dir):
    model = GPT(small(data).model_config(data.vocab_size, 16))
    with pytest.raises(ValueError, match="Probe 0 is a text and needs a tokenizer"):
        Recorder(model, None, ["text"], run_dir)
    with pytest.raises(ValueError, match="probes must be a list; the text 'text' was given"):
        Recorder(model, data.tokenizer, "text", run_dir)
    assert not run_dir.exists()


@pytest.mark.parametrize("again", [4, 3])
def test_the_recorder_wants_each_step_once(data, run_dir, again):
    model = GPT(small(data).model_config(data.vocab_size, 16))
    with Recorder(model, data.tokenizer, [], run_dir) as recorder:
        recorder.step(4, loss=1.0)
        with torch.no_grad():
            model.lm_head.weight.zero_()
        with pytest.raises(ValueError, match=rf"Steps must increase; {again} was given after step 4\. Call step"):
            recorder.step(again, loss=2.0)
        recorder.step(5, loss=3.0)
    assert recorder.run.metrics()["loss"].tolist() == [1.0, 3.0]


def test_the_recorder_says_what_it_cannot_record(data, run_dir):
    recorder = Recorder(GPT(small(data).model_config(data.vocab_size, 16)), data.tokenizer, [], run_dir)
    for step in (-1, True, 10**10):
        with pytest.raises(ValueError, match=r"A step must be a whole number from 0 to 9999999999; .* was given"):
            recorder.step(step)
    recorder.close()
    with pytest.raises(ValueError, match=r"A closed recorder records nothing more; step 1 was given after close\(\)"):
        recorder.step(1, loss=1.0)
    assert open_run(run_dir).verify() == []


# --- threads and progress -----------------------------------------------------------------------------------


def test_threads_fall_back_to_one_when_a_neighbour_takes_the_cores():
    threads = Threads("auto")
    threads.count, threads._quiet = 2, 0.010
    before = torch.get_num_threads()
    try:
        assert not any(threads.observe(0.012) for _ in range(50))
        assert sum(threads.observe(0.090) for _ in range(8)) == 1
        assert (threads.count, torch.get_num_threads()) == (1, 1)
        assert not threads.observe(9.0)
    finally:
        torch.set_num_threads(before)


def test_threads_that_were_asked_for_stay():
    threads = Threads(2)
    threads._quiet = 0.001
    assert not any(threads.observe(1.0) for _ in range(50))
    assert (threads.count, threads.reason) == (2, "as asked")


def test_progress_in_a_file_is_lines(tmp_path):
    with open(tmp_path / "log", "w") as log:
        progress = Progress(0, 100, 768, log)
        for step in range(1, 101):
            progress.update(step, 2.0, 2.5)
        progress.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert "step 100/100  loss 2.0000  val 2.5000" in lines[-1]
    assert "left" in lines[0]
    assert "left" not in lines[-1]
    assert not any("\r" in line for line in lines)


def test_the_first_line_of_a_run_estimates_nothing(data, tmp_path, capsys):
    """The first step takes many times as long as the others, here by a pause; no line after it may know better."""
    train(small(data, out=tmp_path / "run", max_iters=30), on_step=lambda step, loss: time.sleep(1.5 * (step == 0)))
    first, *_, last = [line for line in capsys.readouterr().err.splitlines() if "step " in line and "loss" in line]
    assert first.endswith("estimating the time left")
    assert "tokens/s" not in first
    assert "step 30/30" in last
    assert "left" not in last


@pytest.mark.parametrize(("first", "step", "evaluation", "every"), [(1.7, 0.04, 0.8, 250), (60.0, 0.5, 0.0, 1),
                                                                     (0.001, 0.0005, 0.05, 100), (5.0, 20.0, 0.0, 1)])
def test_the_time_left_is_near_as_soon_as_it_is_said(first, step, evaluation, every):
    n_steps, pace, ends = 2000, Pace(), [first]
    for done in range(2, n_steps + 1):
        ends.append(ends[-1] + step + evaluation * (done % every == 0))
    said = []
    for done, now in enumerate(ends, start=1):
        pace.update(done, now)
        said.append(pace.seconds_per_step)
    known = next(at for at, value in enumerate(said) if value is not None)
    assert known >= 1
    assert None not in said[known:]  # once said, it does not vanish again
    for at in range(known, n_steps - 1):
        left = ends[-1] - ends[at]
        assert said[at] * (n_steps - 1 - at) == pytest.approx(left, rel=0.5, abs=2 * evaluation)


def test_the_pace_follows_a_machine_that_slows_down_for_good():
    pace, now = Pace(), 0.0
    for done in range(1, 401):
        now += 0.1 if done <= 100 else 1.0
        pace.update(done, now)
    assert pace.seconds_per_step == pytest.approx(1.0)


def test_progress_ends_with_the_validation_loss_of_the_finished_model(data, tmp_path, capsys):
    run = train(small(data, out=tmp_path / "run", max_iters=3, eval_interval=100))
    last = capsys.readouterr().err.splitlines()[-1]
    assert "step 3/3" in last
    assert f"val {run.summary()['val_loss']:.4f}" in last


def test_a_run_in_memory_is_named_by_what_it_learns(tmp_path):
    config = TrainConfig(task="sort", n_layer=1, n_head=1, n_embd=8, max_iters=1, threads=1, eval_iters=1)
    assert train(config, progress=False).name == "sort"
    kept = train(dataclasses.replace(config, out=tmp_path / "kept"), progress=False)
    assert kept.name == "kept"


def test_where_the_time_went_is_kept(data, tmp_path):
    run = train(small(data, out=tmp_path / "run", max_iters=5), progress=False)
    summary = run.summary()
    assert set(summary["seconds"]) == {"data", "forward_backward", "optimizer", "eval", "recording", "paused", "other"}
    assert summary["tokens_per_second"] > 0
    assert summary["threads"] == 1
    assert summary["recorder"]["dropped"] == 0


def test_a_task_is_trained_and_scored():
    config = TrainConfig(task="sort", n_layer=1, n_head=1, n_embd=8, max_iters=2, threads=1, eval_iters=1)
    run = train(config, progress=False)
    assert 0 <= run.metrics()["accuracy"][-1] <= 1
    assert run.config.block_size == 11
    run.close()
