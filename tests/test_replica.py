"""A copy of a run directory elsewhere: whole at every moment, and never in the way of the training."""

import contextlib
import shutil
import threading
import time
import warnings
import zlib

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from gptviz.corpora import TextData
from gptviz.model import GPT, GPTConfig
from gptviz.runs import NotARun, open_run, replica
from gptviz.runs.history import JOURNAL, live_files
from gptviz.runs.journal import encode
from gptviz.runs.replica import Replica
from gptviz.training import Recorder, TrainConfig, train

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. " * 30


def small(out, **changes) -> TrainConfig:
    fields = dict(corpus=TextData.from_text(TEXT), n_layer=1, n_head=2, n_embd=16, block_size=16, batch_size=4,
                  max_iters=40, eval_interval=20, eval_iters=1, threads=1, probes=["the quick"], out=out)
    return TrainConfig(**fields | changes)


@pytest.fixture(autouse=True)
def patient(monkeypatch):
    """A first look that takes long is not taken for a URL that does not answer, which is warned of."""
    monkeypatch.setattr(replica, "FIRST_LOOK_SECONDS", 300.0)


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


class Slow(MemoryFileSystem):
    """A file system that answers nothing, not even whether a file is there, until it is let go."""

    protocol = ("slow",)
    cachable = False
    store: dict = {}  # noqa: RUF012 - as fsspec's own
    pseudo_dirs = [""]  # noqa: RUF012
    awake = threading.Event()

    @classmethod
    def _strip_protocol(cls, path):
        return MemoryFileSystem._strip_protocol(str(path).replace("slow://", "memory://"))

    def cat_file(self, path, *args, **options):
        self.awake.wait(300)
        return super().cat_file(path, *args, **options)


@pytest.fixture
def slow():
    fsspec.register_implementation("slow", Slow, clobber=True)
    Slow.awake.clear()
    yield Slow()
    Slow.awake.set()
    for thread in threading.enumerate():
        if thread.name.startswith("gptviz-replica"):  # one that was left hanging goes on now
            thread.join(60)
    Slow.store.clear()


def damaged(files, root) -> list[str]:
    """The files that the journal of a copy lists and that are not there as they were committed."""
    if not files.exists(f"{root}/{JOURNAL}"):
        return []
    return [name for name, record in live_files(files.cat_file(f"{root}/{JOURNAL}")).items()
            if not files.exists(f"{root}/{name}")
            or f"{zlib.crc32(files.cat_file(f'{root}/{name}')):08x}" != record["crc32"]]


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
    try:
        np.testing.assert_array_equal(calm.metrics()["loss"], run.metrics()["loss"])
    finally:
        calm.close()


def test_a_run_in_memory_of_the_other_side_opens_from_a_fetched_copy(tmp_path, often, memory):
    run = train(small(tmp_path / "run", mirror="memory://copy"), progress=False)
    memory.get("/copy", str(tmp_path / "fetched"), recursive=True)
    same(run, open_run(tmp_path / "fetched"))


class Watched:
    """Looks at a copy in memory before and after each file that is put there, and lets a training wait for a step."""

    def __init__(self, files, monkeypatch) -> None:
        self.files, self.changed = files, threading.Condition()
        self.puts: list[str] = []
        self.damaged: list[tuple[str, list[str]]] = []
        self.steps: set[int] = set()
        put, watched = MemoryFileSystem.pipe_file, self

        def pipe_file(self, path, value, **options):
            watched._look(path)
            put(self, path, value, **options)
            watched._look(path)
            with watched.changed:
                watched.puts.append(path)
                if path.endswith(JOURNAL):
                    watched.steps |= {one["step"] for one in live_files(value).values() if one["kind"] == "weights"}
                watched.changed.notify_all()

        monkeypatch.setattr(MemoryFileSystem, "pipe_file", pipe_file)

    def _look(self, path) -> None:
        if found := damaged(self.files, "/copy"):
            self.damaged.append((path, found))

    def wait_for(self, step: int) -> None:
        with self.changed:
            assert self.changed.wait_for(lambda: step in self.steps, 60)


def test_a_copy_is_a_whole_run_at_every_moment(tmp_path, often, memory, monkeypatch):
    watched, recorded = Watched(memory, monkeypatch), [0, 1, 2, 10, 20, 30, 40]
    train(small(tmp_path / "run", mirror="memory://copy", record_steps=recorded), progress=False,
          on_step=lambda step, _: step in recorded and watched.wait_for(step))  # so the copy meets it at each of them
    assert watched.damaged == []
    assert sum(path.endswith(JOURNAL) for path in watched.puts) >= len(recorded)
    assert watched.steps == set(recorded)
    assert damaged(memory, "/copy") == []


def test_a_copy_that_was_cut_off_before_its_journal_goes_on(tmp_path, often, memory, monkeypatch):
    """As a machine leaves it that dies between the files of several steps and the lines that list them."""
    run, put = train(small(tmp_path / "run", mirror="memory://copy"), progress=False), MemoryFileSystem.pipe_file

    def no_journal(self, path, value, **options):
        if path.endswith(JOURNAL):
            raise ConnectionError("gone")
        put(self, path, value, **options)

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", no_journal)
    with pytest.warns(RuntimeWarning, match="The mirror is behind"):
        run.resume(80, progress=False, mirror="memory://copy")
    memory.get("/copy", str(tmp_path / "fetched"), recursive=True)
    with pytest.warns(RuntimeWarning, match="belongs to a copy that was not finished"):
        fetched = open_run(tmp_path / "fetched")
    with pytest.warns(RuntimeWarning, match="the run goes on from what is listed"):
        fetched.resume(80, progress=False)
    assert (fetched.cut, fetched.verify(), fetched.steps) == ("", [], run.steps)
    np.testing.assert_array_equal(fetched.metrics()["loss"], run.metrics()["loss"])


def test_a_mirror_that_fails_is_told_and_stops_nothing(tmp_path, often, monkeypatch):
    def refuse(self, path, *args, **options):
        raise PermissionError("no key for this bucket")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    with pytest.warns(RuntimeWarning, match="The mirror is behind: memory://copy fails .no key for this bucket"):
        run = train(small(tmp_path / "run", mirror="memory://copy"), progress=False)
    assert (run.status, run.verify()) == ("finished", [])


def test_each_kind_of_trouble_with_a_mirror_is_told_once(tmp_path, often, monkeypatch):
    kinds = [PermissionError]

    def refuse(self, path, *args, **options):
        raise kinds[-1]("not now")

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", refuse)
    model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=1, n_embd=4))
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        with Recorder(model, None, [], tmp_path / "run", steps=range(6), mirror="memory://copy") as recorder:
            for step in range(6):
                kinds.append((PermissionError, ConnectionError)[step % 2])
                deadline = time.monotonic() + 60
                while type(recorder.writer.replica.error) is not kinds[-1]:
                    assert time.monotonic() < deadline
                    time.sleep(0.01)
                recorder.step(step)
    assert [str(one.message).split(" is behind")[0] for one in told] == ["The mirror"] * 2


def test_a_mirror_that_comes_back_is_made_whole(tmp_path, often, memory, monkeypatch):
    put, tries, back = MemoryFileSystem.pipe_file, [], threading.Event()

    def at_first(self, path, value, **options):
        tries.append(path)
        if len(tries) < 5:
            raise ConnectionError("gone")
        put(self, path, value, **options)
        back.set()

    monkeypatch.setattr(MemoryFileSystem, "pipe_file", at_first)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        run = train(small(tmp_path / "run", mirror="memory://copy"), progress=False,
                    on_step=lambda *_: back.wait(60))
    memory.get("/copy", str(tmp_path / "fetched"), recursive=True)
    same(run, open_run(tmp_path / "fetched"))


def test_a_mirror_that_does_not_answer_keeps_no_training_waiting(tmp_path, often, slow, monkeypatch):
    monkeypatch.setattr(replica, "FIRST_LOOK_SECONDS", 0.05)
    steps = []

    def on_step(step, loss):
        steps.append(Slow.awake.is_set())
        if step == 39:
            Slow.awake.set()

    with pytest.warns(RuntimeWarning, match="The mirror is behind: slow://copy fails .no answer within 0.05 s"):
        run = train(small(tmp_path / "run", mirror="slow://copy"), progress=False, on_step=on_step)
    assert steps == [False] * 40  # all of them while it hung
    slow.get("/copy", str(tmp_path / "fetched"), recursive=True)
    same(run, open_run(tmp_path / "fetched"))


def test_a_mirror_that_never_answers_is_left_at_the_end(tmp_path, often, slow, monkeypatch):
    monkeypatch.setattr(replica, "FIRST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(replica, "GOODBYE_SECONDS", 0.05)
    with pytest.warns(RuntimeWarning, match="slow://copy fails"):
        run = train(small(tmp_path / "run", mirror="slow://copy"), progress=False)
    assert (run.status, run.verify()) == ("finished", [])
    assert not slow.store


def test_another_run_behind_a_url_that_was_silent_at_first_is_not_written_over(tmp_path, often, slow, monkeypatch):
    monkeypatch.setattr(replica, "FIRST_LOOK_SECONDS", 0.05)
    slow.pipe_file("/copy/run.json", b"{}")
    with (pytest.warns(RuntimeWarning, match="holds another run.*; nothing is copied"),
          pytest.warns(RuntimeWarning, match="slow://copy fails .no answer")):
        run = train(small(tmp_path / "run", mirror="slow://copy"), progress=False,
                    on_step=lambda step, _: step == 39 and Slow.awake.set())
    assert run.status == "finished"
    assert list(slow.store) == ["/copy/run.json"]
    assert slow.cat_file("/copy/run.json") == b"{}"


def test_a_folder_is_a_mirror_and_nothing_is_none(tmp_path, often):
    run = train(small(tmp_path / "run"), progress=False)
    with pytest.raises(ValueError, match="A mirror must be a folder or a URL that fsspec knows; '' was given"):
        run.resume(80, progress=False, mirror="")
    run.resume(80, progress=False, mirror=str(tmp_path / "copy"))
    same(run, open_run(tmp_path / "copy"))


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
    assert Replica(folder, f"file://{copy}").start().close()
    assert victim.read_text() == "mine"
    assert open_run(copy).verify() == []


PLACES = [("run", "is"), ("run/copy", "lies in"), ("", "holds"), ("link", "is"), ("run/../run", "is")]


@pytest.mark.parametrize("scheme", ["", "file://", "local://", "simplecache::file://"])
@pytest.mark.parametrize(("place", "relation"), PLACES)
def test_a_mirror_in_or_around_the_run_is_refused_before_anything_is_made(tmp_path, scheme, place, relation):
    (tmp_path / "link").symlink_to(tmp_path / "run")
    url = f"{scheme}{tmp_path}/{place}"
    with pytest.raises(ValueError, match=f"must lie beside the run directory, not in or around it; .* {relation} "):
        train(small(tmp_path / "run", mirror=url), progress=False)
    assert [path.name for path in tmp_path.iterdir()] == ["link"]


def test_a_run_that_goes_on_is_not_its_own_mirror(tmp_path):
    run = train(small(tmp_path / "run", max_iters=2), progress=False)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for place in (tmp_path, tmp_path / "run", tmp_path / "run" / "ckpt"):
        with pytest.raises(ValueError, match="A mirror must lie beside the run directory"):
            run.resume(4, progress=False, mirror=f"file://{place}")
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_what_the_copy_has_is_not_sent_again(tmp_path, memory, monkeypatch):
    folder = open_run("sorter").path
    assert Replica(folder, "memory://copy").start().close()
    put, sent = MemoryFileSystem.pipe_file, []
    monkeypatch.setattr(MemoryFileSystem, "pipe_file",
                        lambda self, path, value, **options: (sent.append(path), put(self, path, value, **options)))
    assert Replica(folder, "memory://copy").start().close()
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
        try:
            deadline = time.monotonic() + 60
            while "The mirror fails (memory://copy: no key" not in (said := Follower(run).look().trouble):
                assert time.monotonic() < deadline, said
                time.sleep(0.02)
        finally:
            run.close()


def test_a_copy_that_is_not_the_disks_is_never_listed(tmp_path, memory):
    copy = tmp_path / "run"
    shutil.copytree(open_run("sorter").path, copy)
    weights = sorted((copy / "ckpt").glob("*.safetensors"))[0]
    weights.write_bytes(weights.read_bytes()[:-1] + b"?")
    kept = Replica(copy, "memory://copy").start()
    assert not kept.close()
    assert "is not what was committed" in str(kept.error)
    assert not memory.exists(f"/copy/{JOURNAL}")
