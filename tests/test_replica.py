"""A copy of a run directory elsewhere: whole at every moment, and never in the way of the training."""

import contextlib
import shutil
import time
import warnings

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from gptviz.corpora import TextData
from gptviz.runs import NotARun, open_run, replica
from gptviz.runs.history import JOURNAL, live_files
from gptviz.runs.journal import encode
from gptviz.runs.replica import Replica
from gptviz.training import TrainConfig, train

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. " * 30


def small(out, **changes) -> TrainConfig:
    fields = dict(corpus=TextData.from_text(TEXT), n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4,
                  max_iters=40, eval_interval=20, eval_iters=1, threads=1, probes=["the quick"], out=out)
    return TrainConfig(**fields | changes)


@pytest.fixture
def often(monkeypatch):
    """Looks for something new a hundred times a second."""
    monkeypatch.setattr(replica, "EVERY_SECONDS", 0.01)
    monkeypatch.setattr(replica, "LONGEST_PAUSE", 0.02)


@pytest.fixture
def memory():
    files = fsspec.filesystem("memory")
    yield files
    with contextlib.suppress(FileNotFoundError):
        files.rm("/copy", recursive=True)


def same(one, other) -> None:
    """The copy holds the same run, and nothing besides."""
    assert other.verify() == []
    assert other.steps == one.steps
    assert other.resume_steps == one.resume_steps
    for name, column in one.metrics().items():
        assert column.tobytes() == other.metrics()[name].tobytes()
    kept = {str(path.relative_to(run.path)) for run in (one,) for path in run.path.rglob("*") if path.is_file()}
    assert kept == {str(path.relative_to(other.path)) for path in other.path.rglob("*") if path.is_file()}


def test_a_run_is_mirrored_to_a_folder_and_trains_the_same(tmp_path, often):
    run = train(small(tmp_path / "run", mirror=f"file://{tmp_path}/copy"), progress=False)
    same(run, open_run(tmp_path / "copy"))
    calm = train(small(None), progress=False)
    np.testing.assert_array_equal(calm.metrics()["loss"], run.metrics()["loss"])


def test_a_run_in_memory_of_the_other_side_opens_from_a_fetched_copy(tmp_path, often, memory):
    run = train(small(tmp_path / "run", mirror="memory://copy"), progress=False)
    memory.get("/copy", str(tmp_path / "fetched"), recursive=True)
    same(run, open_run(tmp_path / "fetched"))


def test_a_copy_is_a_whole_run_at_every_moment(tmp_path, often, memory, monkeypatch):
    put, seen = MemoryFileSystem.pipe_file, []

    def looked_at(self, path, value, **options):
        put(self, path, value, **options)
        if path.endswith(JOURNAL):
            seen.append([self.exists(f"/copy/{name}") for name in live_files(value)])

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", looked_at)
    train(small(tmp_path / "run", mirror="memory://copy"), progress=False)
    assert len(seen) > 1
    assert all(map(all, seen))
    assert sum(map(len, seen)) > 10


def test_a_mirror_that_fails_is_told_and_stops_nothing(tmp_path, often, monkeypatch):
    def refuse(self, path, *args, **options):
        raise PermissionError("no key for this bucket")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.warns(RuntimeWarning, match="The mirror is behind: memory://copy fails .no key for this bucket"):
        run = train(small(tmp_path / "run", mirror="memory://copy"), progress=False)
    assert (run.status, run.verify()) == ("finished", [])


def test_a_mirror_that_comes_back_is_made_whole(tmp_path, often, memory, monkeypatch):
    put, refusals = MemoryFileSystem.pipe_file, [0]

    def at_first(self, path, value, **options):
        refusals[0] += 1
        if refusals[0] < 5:
            raise ConnectionError("gone")
        put(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", at_first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        run = train(small(tmp_path / "run", mirror="memory://copy"), progress=False)
    memory.get("/copy", str(tmp_path / "fetched"), recursive=True)
    same(run, open_run(tmp_path / "fetched"))


def test_a_resumed_run_goes_on_with_its_mirror(tmp_path, often, memory):
    run = train(small(tmp_path / "run", mirror="memory://copy"), progress=False)
    assert "copy" not in (run.path / "run.json").read_text()  # whoever is given the run must not write there
    run.resume(80, progress=False, mirror="memory://copy")
    memory.get("/copy", str(tmp_path / "fetched"), recursive=True)
    same(run, open_run(tmp_path / "fetched"))


def test_names_in_a_copy_lead_to_no_other_file(tmp_path):
    folder, copy, victim = open_run("sorter").path, tmp_path / "copy", tmp_path / "victim.txt"
    copy.mkdir()
    victim.write_text("mine")
    shutil.copy(folder / "run.json", copy)
    (copy / JOURNAL).write_bytes(encode({"kind": "weights", "step": 1, "file": "../victim.txt", "crc32": "0"}))
    assert Replica(folder, f"file://{copy}").close()
    assert victim.read_text() == "mine"
    assert open_run(copy).verify() == []


def test_a_run_is_not_its_own_mirror():
    folder = open_run("sorter").path
    with pytest.raises(ValueError, match="A mirror must lie outside of the run directory"):
        Replica(folder, f"file://{folder}")


def test_what_the_copy_has_is_not_sent_again(tmp_path, memory, monkeypatch):
    folder = open_run("sorter").path
    assert Replica(folder, "memory://copy").close()
    put, sent = MemoryFileSystem.pipe_file, []
    monkeypatch.setattr(MemoryFileSystem, "pipe_file",
                        lambda self, path, value, **options: (sent.append(path), put(self, path, value, **options)))
    assert Replica(folder, "memory://copy").close()
    assert [path for path in sent if "ckpt" in path or "snap" in path] == []


def test_another_run_is_not_written_over(tmp_path, memory):
    memory.pipe_file("/copy/run.json", b"{}")
    with pytest.raises(NotARun, match="must be new, empty or hold an older copy of the same run; memory://copy holds"):
        train(small(tmp_path / "run", mirror="memory://copy"), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_url_that_nobody_knows_is_refused_before_anything_is_made(tmp_path):
    with pytest.raises(ValueError, match="mirror must be a URL that fsspec knows"):
        train(small(tmp_path / "run", mirror="nowhere://at/all"), progress=False)
    assert not (tmp_path / "run").exists()


def test_a_live_run_says_that_its_mirror_fails(tmp_path, often, monkeypatch):
    from gptviz.runs import Follower

    def refuse(self, path, *args, **options):
        raise PermissionError("no key for this bucket")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        run = train(small(tmp_path / "run", mirror="memory://copy", max_iters=10**6), background=True)
        deadline = time.monotonic() + 60
        while "The mirror fails (memory://copy: no key" not in (said := Follower(run).look().trouble):
            assert time.monotonic() < deadline, said
            time.sleep(0.02)
        run.close()


def test_a_copy_that_is_not_the_disks_is_never_listed(tmp_path, memory):
    copy = tmp_path / "run"
    shutil.copytree(open_run("sorter").path, copy)
    weights = sorted((copy / "ckpt").glob("*.safetensors"))[0]
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    kept = Replica(copy, "memory://copy")
    assert not kept.close()
    assert "is not what was committed" in str(kept.error)
    assert not memory.exists(f"/copy/{JOURNAL}")
