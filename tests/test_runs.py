"""The run directory: what readers see, trust and refuse."""

import contextlib
import json
import os
import re
import shutil
import struct
import subprocess
import sys
import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from gptviz.loading import load
from gptviz.model import GPT, GPTConfig
from gptviz.runs import (
    CorruptSnapshot,
    NotARun,
    RunLocked,
    RunWriter,
    journal,
    lock,
    open_run,
    resume_points,
    schedule,
)
from gptviz.runs.cadence import kept_resume_points
from gptviz.runs.files import file_name, safetensors_bytes
from gptviz.runs.history import JOURNAL, METRICS, History, Scalars
from gptviz.runs.journal import LineReader, LineWriter, decode, encode, lossless, restored
from gptviz.tokenizers import CharTokenizer
from gptviz.training import Recorder, TrainConfig, train

TOKENIZER = CharTokenizer("abcde")
INFO = {"schema_version": 1, "model": {"n_layer": 1}, "tokenizer": None, "probes": []}


@pytest.fixture
def model():
    return GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))


@pytest.fixture
def run(model, run_dir):
    """Steps 0, 1, 2, 4 of a model whose weights change by 1 at each step."""
    with Recorder(model, TOKENIZER, ["abca", "bed"], run_dir) as recorder:
        for step in range(6):
            recorder.step(step, loss=float("nan") if step == 3 else 5.0 - step, lr=0.1)
            for parameter in model.parameters():
                parameter.data += 1.0 if parameter.ndim == 1 else 0.01
    return open_run(run_dir)


def damage(run, kind, step, change):
    path = run.path / file_name(kind, step)
    data = bytearray(path.read_bytes())
    path.write_bytes(change(data))
    return path


# --- the schedule -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("max_iters", "expected"),
    [(0, [0]), (1, [0, 1]), (3, [0, 1, 2, 3]), (200, [0, 1, 2, 4, 8, 16, 32, 64, 128, 200]),
     (600, [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, *range(516, 601, 6)])],
)  # fmt: skip
def test_schedule_is_dense_early_and_then_every_hundredth(max_iters, expected):
    assert schedule(max_iters) == expected


def test_schedule_refuses_negative_lengths():
    with pytest.raises(ValueError, match="max_iters must be at least 0; -1 was given"):
        schedule(-1)


def test_at_most_twelve_optimizer_states_are_kept():
    for max_iters in (10, 777, 2000, 50_000):
        points = resume_points(schedule(max_iters), max_iters)
        kept = kept_resume_points(points, max_iters)
        assert max(points) in kept
        assert len(kept) <= 13
        assert sorted(points)[-2:] == sorted(kept)[-2:]


# --- lines --------------------------------------------------------------------------------------------------


@pytest.fixture
def at_once(monkeypatch):
    """Calls a function in two threads, both of which are within the reading of a line where nothing keeps one out."""
    both, one_by_one = threading.Barrier(2), journal.decode

    def decode_together(line):
        with contextlib.suppress(threading.BrokenBarrierError):
            both.wait(1.0)  # in vain, and once, where the other is kept out
        return one_by_one(line)

    def call(function):
        monkeypatch.setattr(journal, "decode", decode_together)
        with ThreadPoolExecutor(2) as threads:
            return [called.result() for called in [threads.submit(function) for _ in range(2)]]

    return call


def test_two_threads_take_in_each_line_of_a_journal_once(tmp_path, at_once):
    history, lines = History(tmp_path), LineWriter(tmp_path / JOURNAL)
    lines.append([{"kind": "segment", "from_step": step, "max_iters": 9, "metrics_file": step} for step in range(3)])
    at_once(history.poll)
    assert [one["from_step"] for one in history.segments] == [0, 1, 2]
    assert history.lines.corrupt == []
    assert history.lines.offset == lines.size
    lines.close()


def test_two_threads_take_in_each_row_of_scalars_once(tmp_path, at_once):
    (tmp_path / METRICS).mkdir()
    lines = LineWriter(tmp_path / METRICS / "000000.jsonl")
    lines.append([{"step": step, "loss": 1.0} for step in range(3)])
    lines.close()
    scalars, segments = Scalars(tmp_path), [{"from_step": 0, "metrics_file": 0}]
    seen = at_once(lambda: scalars.rows(segments))
    assert [[row["step"] for row in rows] for rows in [*seen, scalars.rows(segments)]] == [[0, 1, 2]] * 3


def test_a_line_survives_and_a_flipped_bit_is_noticed():
    line = encode({"step": 3, "text": "ä\n<script>"})
    assert decode(line[:-1]) == {"step": 3, "text": "ä\n<script>"}
    for place in range(len(line) - 1):
        assert decode(line[:place] + bytes([line[place] ^ 1]) + line[place + 1 : -1]) is None


def test_what_is_not_finite_survives():
    row = {"step": 1, "loss": float("nan"), "a": float("inf"), "b": -float("inf"), "c": 0.1}
    back = restored(decode(encode(lossless(row))[:-1]))
    assert np.isnan(back["loss"])
    assert (back["a"], back["b"], back["c"]) == (np.inf, -np.inf, 0.1)


def test_a_torn_last_line_is_ignored_by_readers_and_cut_by_the_next_writer(tmp_path):
    path = tmp_path / "lines"
    whole = encode({"n": 1})
    for torn in range(1, len(whole)):
        path.write_bytes(whole + whole[:torn])
        reader = LineReader(path)
        assert (reader.poll(), reader.torn, reader.corrupt) == ([{"n": 1}], torn, [])
        writer = LineWriter(path)
        assert writer.cut == torn
        writer.append([{"n": 2}])
        writer.close()
        assert reader.poll() == [{"n": 2}]


def test_the_next_writer_says_that_it_cut_a_torn_line(run):
    with open(run.path / "journal.jsonl", "ab") as journal:
        journal.write(b"00000000 {")
    writer = RunWriter(run.path, max_iters=10, from_step=4)
    writer.close()
    assert "was torn" in writer.notice
    assert "10 bytes were cut off" in writer.notice
    assert open_run(run.path).verify() == []


def assert_goes_on_and_keeps(folder: Path, unlisted: set[str]) -> None:
    """A writer of this run sets exactly these files aside, as they are, says so, and leaves a whole run."""
    before = {name: (folder / name).read_bytes() for name in unlisted}
    writer = RunWriter(folder, max_iters=8)
    assert re.search(r"does not list the files of the \d+ steps .* were moved to", writer.notice)
    writer.close()
    aside = folder / "unlisted" / f"{History(folder).segments[-1]['metrics_file']:06d}"
    assert {str(path.relative_to(aside)): path.read_bytes() for path in aside.rglob("*.*")} == before
    assert (open_run(folder).cut, open_run(folder).verify()) == ("", [])


def test_a_journal_that_was_cut_is_told_by_the_files_beyond_it(tmp_path):
    """Cut behind each line of a run that train() made; what each cut loses is counted from the lines themselves."""
    folder = tmp_path / "run"
    train(TrainConfig(task="sort", n_layer=1, n_head=1, n_embd=8, max_iters=8, threads=1, eval_iters=1, out=folder,
                      record_steps=[0, 2, 4, 8]), progress=False)
    journal = folder / JOURNAL
    lines = journal.read_bytes().splitlines(keepends=True)
    files = [record if "file" in (record := decode(line.rstrip(b"\n"))) else None for line in lines]
    told = []
    for kept in range(len(lines) + 1):
        listed = {record["file"] for record in files[:kept] if record}
        lost = sorted({record["step"] for record in files[kept:] if record and record["file"] not in listed
                       and (folder / record["file"]).exists()})
        journal.write_bytes(b"".join(lines[:kept]))
        told.append(len(lost) > 1)
        if not told[-1]:
            run = open_run(folder)
            assert (run.cut, run.verify()) == ("", [])
            assert run.status == ("finished" if kept == len(lines) else "killed")
            continue
        said = rf"has lost lines, or .*: files of the {len(lost)} steps {lost[0]} to {lost[-1]} lie beside it"
        with pytest.warns(RuntimeWarning, match=said):
            run = open_run(folder)
        assert [problem.path for problem in run.verify()] == [journal]
        assert re.search(said, run.outcome)
        unlisted = {record["file"] for record in files[kept:] if record and record["file"] not in listed
                    and (folder / record["file"]).exists()}
        assert_goes_on_and_keeps(shutil.copytree(folder, tmp_path / f"cut{kept}"), unlisted)
    assert told[0]
    assert not told[-1]
    assert 3 < sum(told) < len(lines)
    with open(journal, "wb") as cut:
        cut.write(b"".join(lines[:3]) + lines[3][:9])
    with pytest.warns(RuntimeWarning) as warned:
        open_run(folder)
    assert ["Nothing that was committed is lost" in str(one.message) for one in warned] == [False, False]


def test_a_file_that_the_journal_does_not_take_is_taken_back(tmp_path, monkeypatch):
    """So that an item that is given up leaves no file that no line lists."""
    from gptviz.runs import writer as module

    monkeypatch.setattr(module, "GIVE_UP_SECONDS", 0.0)
    writer = RunWriter.create(tmp_path / "run", INFO, max_iters=10)

    def refuse(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer._journal, "append_bytes", refuse)
    writer.commit(1, {"weights": {"a": np.zeros(3, np.float32)}})
    writer.commit(2, {"weights": {"a": np.zeros(3, np.float32)}}, final=True)
    assert not writer.close()
    assert list((tmp_path / "run" / "ckpt").iterdir()) == []
    assert open_run(tmp_path / "run").cut == ""


def test_a_torn_last_line_is_told_by_whoever_opens_the_run(run):
    with open(run.path / "journal.jsonl", "ab") as journal:
        journal.write(b"00000000 {")
    with pytest.warns(RuntimeWarning, match=r"last line of .*journal.jsonl is torn .* its 10 bytes are passed over"):
        again = open_run(run.path)
    assert again.steps == run.steps
    with pytest.warns(RuntimeWarning, match="is torn"):
        load(run.path)
    RunWriter(run.path, max_iters=10, from_step=4).close()
    assert again.torn == ""


def test_a_line_that_is_being_written_is_not_called_torn(run):
    writer = RunWriter(run.path, max_iters=10, from_step=4)
    with open(run.path / "journal.jsonl", "ab") as journal:
        journal.write(b"00000000 {")
    assert open_run(run.path).torn == ""
    os.truncate(run.path / "journal.jsonl", (run.path / "journal.jsonl").stat().st_size - 10)
    writer.close()


def test_a_line_whose_writer_ends_while_it_is_read_is_not_called_torn(run, monkeypatch):
    journal = run.path / "journal.jsonl"
    whole, holder = journal.read_bytes(), lock.holder
    journal.write_bytes(whole[:-9])

    def ends(folder):
        journal.write_bytes(whole)
        return holder(folder)

    monkeypatch.setattr(lock, "holder", ends)  # between the two looks of a reader
    assert open_run(run.path).torn == ""


# --- reading ------------------------------------------------------------------------------------------------


def test_a_recorded_run_reads_back(run):
    assert run.steps == [0, 1, 2, 4]
    assert run.probes == ["abca", "bed"]
    assert run.config.n_head == 2
    assert run.status == "finished"
    metrics = run.metrics()
    assert metrics["step"].tolist() == list(range(6))
    np.testing.assert_equal(metrics["loss"], [5, 4, 3, np.nan, 1, 0])
    assert metrics["nonfinite"].tolist() == [False, False, False, True, False, False]
    assert run.summary()["bytes"]["weights"] > 0


def test_a_snapshot_is_what_recording_again_gives(run):
    for probe, text in enumerate(run.probes):
        snapshot = run.snapshot(2, probe)
        trace = run.record(text, step=2)
        assert snapshot.tokens == trace.tokens
        np.testing.assert_allclose(snapshot.attention(), trace["pattern"].detach(), atol=0.004)
        np.testing.assert_allclose(snapshot.loss, trace["loss"].detach(), rtol=1e-5)
        probabilities = trace["logits"].softmax(-1).detach()
        np.testing.assert_array_equal(snapshot.top_ids[:, 0], probabilities.argmax(-1))
        np.testing.assert_allclose(snapshot.top_probs.sum(-1), 1, rtol=1e-5)  # all five tokens are among the ten
        norms = snapshot.statistics["resid_norm"]
        np.testing.assert_allclose(norms[0], trace["resid_pre", 0].detach().norm(dim=-1), rtol=1e-5)
        np.testing.assert_allclose(norms[1:], trace["resid_post"].detach().norm(dim=-1), rtol=1e-5)


def test_head_statistics_have_their_known_values(run):
    import torch

    from gptviz.training.recorder import pattern_arrays

    uniform = torch.tril(torch.ones(2, 2, 5, 5)) / torch.arange(1, 6)[:, None]
    scores = pattern_arrays(uniform)
    np.testing.assert_allclose(scores["entropy"], 1, rtol=1e-6)
    np.testing.assert_allclose(scores["first"], (1 / 2 + 1 / 3 + 1 / 4 + 1 / 5) / 4, rtol=1e-6)
    previous = torch.zeros(1, 1, 4, 4)
    previous[0, 0, [0, 1, 2, 3], [0, 0, 1, 2]] = 1
    scores = pattern_arrays(previous)
    assert (float(scores["previous"][0, 0]), float(scores["entropy"][0, 0])) == (1, 0)
    assert "nonfinite" not in scores


def test_rows_of_attention_that_are_not_finite_are_kept_as_such(model, run_dir, monkeypatch):
    import torch

    from gptviz.training import recorder as module

    def first_query_only(pattern):
        pattern = pattern.clone()
        pattern[:, :, 1:] = float("nan")
        return real(pattern)

    real = module.pattern_arrays
    monkeypatch.setattr(module, "pattern_arrays", first_query_only)
    with Recorder(model, TOKENIZER, ["abca"], run_dir) as recorder:
        recorder.step(0)
    attention = torch.from_numpy(recorder.run.snapshot(0).attention())
    assert attention[:, :, 0].isfinite().all()
    assert attention[:, :, 1:].isnan().all()


def test_a_model_that_is_all_nan_is_recorded(model, run_dir):
    model.transformer.wpe.weight.data.fill_(float("nan"))
    with Recorder(model, TOKENIZER, ["abca"], run_dir) as recorder:
        recorder.step(0, loss=float("nan"))
    snapshot = recorder.run.snapshot(0)
    assert np.isnan(snapshot.attention()).all()
    assert np.isnan(snapshot.loss).all()
    assert np.isnan(recorder.run.weights(0)["transformer.wpe.weight"]).all()


def test_models_of_different_steps_differ_and_do_not_share(run):
    (first, tokenizer), (last, _) = run.load(0), run.load()
    assert (first.training, tokenizer.characters) == (False, "abcde")
    difference = last.transformer.ln_f.weight - first.transformer.ln_f.weight
    np.testing.assert_allclose(difference.detach(), 4.0)
    assert first.lm_head.weight is first.transformer.wte.weight


def test_a_tied_head_is_stored_once(run):
    names = np.frombuffer((run.path / file_name("weights", 0)).read_bytes(), dtype=np.uint8).tobytes()
    assert names.count(b"wte.weight") + names.count(b"lm_head.weight") == 1
    assert {"lm_head.weight", "transformer.wte.weight"} <= set(run.weights(0))


def test_the_reader_needs_no_torch(run):
    code = (
        f"import sys; from gptviz.runs import open_run; run = open_run({str(run.path)!r});"
        "run.snapshot(2).attention(); run.metrics(); run.weights(); run.verify(); print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_resumed_run_forgets_what_came_after(run):
    writer = RunWriter(run.path, max_iters=10, from_step=2)
    writer.log({"step": 2, "loss": 9.0})
    writer.close()
    assert run.steps == [0, 1, 2]
    assert run.metrics()["loss"].tolist() == [5, 4, 9]
    assert not (run.path / file_name("weights", 4)).exists()
    assert run.status == "killed"  # the new segment has no end


# --- refusing -----------------------------------------------------------------------------------------------


def test_what_is_not_a_run_is_refused(tmp_path):
    with pytest.raises(NotARun, match=r"A run directory holds a run.json; .*nowhere does not exist"):
        open_run(tmp_path / "nowhere")
    with pytest.raises(NotARun, match=r"A run directory holds a run.json; .* has none"):
        open_run(tmp_path)
    for content in ("", "{", "[1]", "{}", '{"schema_version": "1"', "[" * 100_000):
        (tmp_path / "run.json").write_text(content)
        with pytest.raises(NotARun, match=r"run.json must be what gptviz wrote; .* is damaged"):
            open_run(tmp_path)
    (tmp_path / "run.json").write_text('{"schema_version": 1}')
    with pytest.raises(NotARun, match=r"run.json must have model, tokenizer and probes"):
        open_run(tmp_path)


def test_a_newer_run_is_refused_and_unknown_keys_are_not(run):
    info = json.loads((run.path / "run.json").read_text())
    (run.path / "run.json").write_text(json.dumps({**info, "mood": "good"}))
    assert open_run(run.path).steps == [0, 1, 2, 4]
    (run.path / "run.json").write_text(json.dumps({**info, "schema_version": 2}))
    with pytest.raises(NotARun, match=r"written by a newer gptviz \(run format 2\).*Upgrade gptviz"):
        open_run(run.path)


def test_steps_and_probes_that_do_not_exist_are_refused(run):
    with pytest.raises(ValueError, match=r"step must be a recorded one .*; 3 has no weights, the nearest are 1, 2, 4"):
        run.load(3)
    with pytest.raises(ValueError, match=r"probe must be 0 to 1 .*; 2 was given"):
        run.snapshot(0, 2)
    with pytest.raises(ValueError, match="Only a run that train"):
        run.resume()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda data: data[:-1], "bytes but"),
        (lambda data: data[:7], "has 7 bytes but"),
        (lambda data: b"", "has 0 bytes but"),
        (lambda data: data + b"x", "bytes but"),
        (lambda data: data[:-1] + bytes([data[-1] ^ 1]), "its checksum differs"),
    ],
)
def test_a_damaged_file_is_named_with_its_step(run, change, reason):
    path = damage(run, "weights", 2, change)
    with pytest.raises(CorruptSnapshot, match=f"Step 2 cannot be read: .*{reason}") as error:
        run.load(2)
    assert (error.value.step, error.value.path) == (2, path)
    assert [(problem.step, problem.path) for problem in run.verify()] == [(2, path)]
    run.load(4)


def test_a_missing_file_is_named(run):
    (run.path / file_name("snapshot", 1)).unlink()
    with pytest.raises(CorruptSnapshot, match=r"Step 1 cannot be read: .* cannot be opened"):
        run.snapshot(1)


@pytest.mark.parametrize("header", [struct.pack("<Q", 1 << 60), struct.pack("<Q", 2) + b"{]", b"\x80\x04.", b""])
def test_committed_rubbish_is_not_believed(run, header):
    """Even with the right size and checksum in the journal."""
    (run.path / file_name("weights", 9)).write_bytes(header)
    record = {"kind": "weights", "step": 9, "file": file_name("weights", 9), "bytes": len(header)}
    with open(run.path / "journal.jsonl", "ab") as journal:
        journal.write(encode(record | {"crc32": f"{zlib.crc32(header):08x}"}))
    with pytest.raises(CorruptSnapshot, match=r"Step 9 cannot be read: .* is not a safetensors file"):
        run.load(9)


@pytest.mark.parametrize("name", ["../../etc/passwd", "/etc/passwd", "ckpt/../run.json", "ckpt/0000000009.pt", "\0"])
def test_a_journal_cannot_name_other_files(run, name):
    with open(run.path / "journal.jsonl", "ab") as journal:
        journal.write(encode({"kind": "weights", "step": 9, "file": name, "bytes": 1, "crc32": "00000000"}))
    with pytest.raises(CorruptSnapshot, match="is not a name that a run directory uses"):
        run.weights(9)


def test_a_link_is_not_followed(run, tmp_path):
    path = run.path / file_name("weights", 2)
    path.rename(tmp_path / "elsewhere")
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(CorruptSnapshot, match="cannot be opened"):
        run.weights(2)


def test_a_damaged_line_in_the_middle_is_flagged_and_the_rest_is_read(run):
    journal = run.path / "journal.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    place = next(n for n, line in enumerate(lines) if b'"weights","step":1,' in line)
    lines[place] = lines[place].replace(b'"step":1', b'"step":7')
    journal.write_bytes(b"".join(lines))
    again = open_run(run.path)
    assert again.steps == [0, 2, 4]
    assert "has a damaged line at byte" in str(again.verify()[0])
    assert again.verify()[0].path == journal


@pytest.mark.parametrize(
    "record", [{}, {"kind": "weights"}, {"kind": "weights", "step": "x", "file": 3}, {"kind": "segment"}]
)
def test_a_whole_line_that_says_nothing_is_skipped(run, record):
    with open(run.path / "journal.jsonl", "ab") as journal:
        journal.write(encode(record))
    assert open_run(run.path).steps == [0, 1, 2, 4]


def test_a_new_run_needs_an_empty_folder(run, tmp_path):
    with pytest.raises(NotARun, match=r"A new run needs a new folder; .* holds a run already"):
        RunWriter.create(run.path, INFO, max_iters=1)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "cat.jpg").touch()
    info = json.loads((run.path / "run.json").read_text())
    for content, why in ((json.dumps(info | {"schema_version": 2}), r"a newer gptviz \(run format 2\).*Upgrade gptviz"),
                         ("{", "run.json must be what gptviz wrote")):
        (run.path / "run.json").write_text(content)
        with pytest.raises(NotARun, match=f"holds a run that cannot be read.*Choose another out=.*{why}") as refused:
            RunWriter.create(run.path, INFO, max_iters=1)
        assert "delete" not in str(refused.value)
    with pytest.raises(NotARun, match=r"A new run needs a new or empty folder; .* is not empty"):
        RunWriter.create(tmp_path / "photos", INFO, max_iters=1)
    assert [path.name for path in (tmp_path / "photos").iterdir()] == ["cat.jpg"]


def test_the_folder_of_a_live_run_is_not_offered_for_deletion(run):
    writer = RunWriter(run.path, max_iters=10, from_step=4)
    sentence = rf"a training is writing to .* \(process {os.getpid()} on .*Choose another out=, or stop that training"
    with pytest.raises(RunLocked, match=sentence) as refused:
        RunWriter.create(run.path, INFO, max_iters=1)
    assert "delete" not in str(refused.value)
    writer.close()
    with pytest.raises(NotARun, match="or delete the folder"):
        RunWriter.create(run.path, INFO, max_iters=1)


def test_a_stop_that_cannot_be_asked_for_is_a_sentence(run):
    with pytest.raises(ValueError, match=r"Only a run that is training can be stopped; .* is not\. Finished"):
        run.stop()
    assert not (run.path / "STOP").exists()
    writer = RunWriter(run.path, max_iters=10, from_step=4)
    (run.path / "STOP").symlink_to(run.path / "no" / "such" / "folder")  # cannot be touched, not even by root
    with pytest.raises(OSError, match=rf"must be writable; .* Stop it where it trains \(process {os.getpid()} on"):
        run.stop()
    (run.path / "STOP").unlink()
    run.stop()
    assert (run.path / "STOP").exists()
    writer.close()


def test_weights_that_are_not_finite_are_named_with_their_run_and_step(model, run_dir):
    with Recorder(model, TOKENIZER, [], run_dir, steps=[0, 7]) as recorder:
        recorder.step(0)
        for parameter in model.parameters():
            parameter.data.fill_(float("nan"))
        recorder.step(7)
    sentence = rf"^Step 7 of the run {re.escape(str(run_dir))} holds 'transformer.wte.weight' with 40 values that"
    for step in (None, 7, 7, 7):  # the library gives the arrays of a file in another order each time
        with pytest.raises(ValueError, match=sentence):
            open_run(run_dir).load(step)
    assert open_run(run_dir).load(0)[0].config.n_layer == 2


@pytest.mark.parametrize("name", ["a space", "émoji 🙂", "<img src=x onerror=alert(1)>", "x" * 200])
def test_odd_folder_names_work(tmp_path, name):
    writer = RunWriter.create(tmp_path / name, INFO, max_iters=1)
    writer.commit(0, {"weights": {"w": np.zeros(3)}})
    writer.close()
    assert open_run(tmp_path / name).steps == [0]


def test_metrics_files_are_rotated(run_dir, monkeypatch):
    monkeypatch.setattr("gptviz.runs.writer.METRICS_FILE_BYTES", 500)
    writer = RunWriter.create(run_dir, INFO, max_iters=1)
    for step in range(60):
        writer.log({"step": step, "loss": 1.0})
        if step % 10 == 9:
            writer.flush()
    writer.close()
    assert len(list((run_dir / "metrics").iterdir())) > 2
    assert open_run(run_dir).metrics()["step"].tolist() == list(range(60))


def test_load_finds_runs_and_says_when_a_step_makes_no_sense(run, tmp_path):
    model, _ = load(run.path, step=2)
    assert model.config.n_layer == 2
    with pytest.raises(ValueError, match="step must be left out unless a run is loaded"):
        load(tmp_path / "ckpt.pt", step=2)


def test_arrays_become_the_bytes_of_the_safetensors_library() -> None:
    rng = np.random.default_rng(0)
    arrays = {
        "é\"\\\n": rng.normal(size=(3, 2)).astype(np.float32),
        "empty": np.zeros((0, 3), np.uint8),
        "scalar": np.array(3),
        "true": np.array([True, False]),
        "half": rng.normal(size=5).astype(np.float16),
        "short": np.arange(3, dtype=np.int16),
        "ids": np.arange(3, dtype=np.int32),
        "double": rng.normal(size=2),
    }
    arrays |= {f"u{size}": np.arange(3, dtype=f"u{size}") for size in (2, 4, 8)}
    with pytest.raises(ValueError, match=r"A run keeps arrays of .*; \{'z': 'complex128'\} were given"):
        safetensors_bytes({"z": np.zeros(1, complex)})
    for part in ({}, arrays, {"one": arrays["half"]}):
        assert safetensors_bytes(part) == safetensors.numpy.save(part)
    turned = {"turned": rng.normal(size=(2, 3)).T}  # the library writes the numbers of this one in another order
    assert np.array_equal(safetensors.numpy.load(bytes(safetensors_bytes(turned)))["turned"], turned["turned"])
