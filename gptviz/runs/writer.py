"""Writing a run directory: a queue, a thread, and what to do when the disk says no.

The training thread hands over arrays that nobody else holds and goes on; the writer's thread serialises them, waits
for the disk and commits them with a journal line. If the disk refuses, the writer is "degraded": it tries again, ever
more rarely, and drops the newest of what does not fit into its queue, while training goes on.
"""

import atexit
import contextlib
import os
import threading
import time
import zlib
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from gptviz.runs import lock
from gptviz.runs.cadence import kept_resume_points
from gptviz.runs.faults import NotARun, RunLocked
from gptviz.runs.files import FILE_NAME, Arrays, file_name, serialise
from gptviz.runs.history import JOURNAL, METRICS, History
from gptviz.runs.journal import LineWriter, Record, encode, lossless
from gptviz.runs.reader import STOP, UNLISTED, WHY_UNLISTED, files_of_steps, read_info
from gptviz.runs.replica import Replica
from gptviz.spelling import spelling
from gptviz.whole_files import TEMPORARY, write_whole

QUEUED_ITEMS = 16
QUEUED_BYTES = 512 << 20
LONGEST_WAIT = 0.05  # seconds that a step may wait for the disk
PENDING_ROWS = 100_000  # rows of scalars kept in memory while the disk refuses them
METRICS_FILE_BYTES = 8 << 20
FLUSH_SECONDS = 0.5  # a killed process loses at most these scalars
RETRY_SECONDS = (0.5, 30.0)  # first and longest pause before the disk is tried again
GIVE_UP_SECONDS = 3.0  # how long close() goes on trying a disk that refuses
HUNG_SECONDS = 60.0  # how long close() waits for a disk that does not answer

PARTS = ("ckpt", "snap", METRICS)
State = Literal["recording", "degraded", "closed"]


@dataclass
class Item:
    """What is committed together at one step: contents by kind, and journal records.

    Attributes:
        step: Training step.
        contents: Arrays or JSON by kind ("snapshot", "weights", "optimizer", "state"), committed in this order.
        records: Journal records to add after them.
        final: Never dropped.
        nbytes: Bytes of the arrays as they were handed over.
    """

    step: int
    contents: dict[str, Arrays | Record]
    records: list[Record]
    final: bool = False
    nbytes: int = field(init=False)

    def __post_init__(self) -> None:
        arrays = (array for content in self.contents.values() for array in content.values())
        self.nbytes = sum(getattr(array, "nbytes", 0) for array in arrays)


def _is_unfinished(path: Path) -> bool:
    """Whether this is all that a process can have left that was killed before the run existed."""
    if path.name in PARTS:
        return path.is_dir() and not any(path.iterdir())
    return path.name.startswith(TEMPORARY)


@contextlib.contextmanager
def _told(folder: Path) -> Iterator[None]:
    """The system's refusal as a sentence about the run directory."""
    try:
        yield
    except OSError as error:
        raise type(error)(
            f"A run must be kept in a folder that can be written; {folder} cannot ({error.strerror or error}). "
            f"Choose another {spelling().setting('out')}, or make it writable and free some space."
        ) from error


def _taken(folder: Path) -> ValueError:
    """Why no new run can begin where one is, and what to do: a run is not offered for deletion unless it is at rest."""
    out = spelling().setting("out")
    if owner := lock.holder(folder):
        return RunLocked(f"A new run needs a new folder; a training is writing to {folder} (process {owner['pid']} on "
                         f"{owner['host']}, since {owner['started']}). Choose another {out}, or stop that training "
                         f"first: {spelling().stop(folder)}.")
    try:
        read_info(folder)
    except NotARun as error:
        return NotARun(f"A new run needs a new folder; {folder} holds a run that cannot be read. Choose another {out}. "
                       f"What is there: {error}")
    return NotARun(f"A new run needs a new folder; {folder} holds a run already. Choose another {out}, go on with "
                   f"{spelling().resume(folder)}, or delete the folder.")


def _replica(folder: Path, mirror: str | Path | None) -> Replica | None:
    """The copy at a URL or in a folder, not begun."""
    return None if mirror is None else Replica(folder, os.fspath(mirror))


class RunWriter:
    """The one writer of a run directory.

    Args:
        folder: The run directory; it exists and holds run.json (see `create`).
        max_iters: Planned length of the run, which decides which optimizer states are kept.
        from_step: The step at which this segment begins; what was recorded after it no longer counts.
        mirror: A URL that fsspec knows, where a copy is kept up (`gptviz.runs.replica`), or the Replica for it.

    Attributes:
        state: "recording", "degraded" (the disk refuses; training goes on) or "closed".
        error: What the disk said last, or None.
        dropped: Recorded steps and rows that were given up because the disk was too slow or refused.
        notice: A sentence if a torn last line of the journal was cut off, else None.
        longest_wait: The longest that a step waited for room in the queue, seconds.
        replica: The copy elsewhere, or None.

    Raises:
        RunLocked: If another process writes to it.
        ValueError: If `mirror` is no such URL, holds another run, or lies in or around the run directory.
        OSError: If the folder cannot be written.
    """

    def __init__(
        self, folder: Path, *, max_iters: int, from_step: int = 0, mirror: str | Path | Replica | None = None
    ) -> None:
        self.folder, self.max_iters = folder, max_iters
        self.state: State = "recording"
        self.error: Exception | None = None
        self.dropped = 0
        self.longest_wait = 0.0
        self.notice: str | None = None
        self._pid = os.getpid()
        self._queue: deque[Item] = deque()
        self._rows: deque[Record] = deque()
        self._changed = threading.Condition()
        self._closing = False
        self._waited_for = 0  # callers of flush()
        self._unsaved = False
        self.replica = mirror if isinstance(mirror, Replica) else _replica(folder, mirror)
        with _told(folder):
            lock.acquire(folder)
        try:
            with _told(folder):
                self._begin_segment(from_step)
            if self.replica:
                self.replica.start()
        except BaseException:
            lock.release(folder)
            raise
        self._thread = threading.Thread(target=self._work, name="gptviz-writer", daemon=True)
        self._thread.start()
        atexit.register(self.close)

    @classmethod
    def create(cls, folder: Path, info: Record, *, max_iters: int, mirror: str | Path | None = None) -> "RunWriter":
        """Makes a run directory in a folder that is new or empty, and opens it for writing.

        Raises:
            RunLocked: If a training is writing to the folder.
            ValueError: If the folder holds something already, or `mirror` is no URL for it.
            OSError: If the folder cannot be written.
        """
        replica = _replica(folder, mirror)  # refuses before anything is made
        with _told(folder):
            cls._make(folder, info)
        return cls(folder, max_iters=max_iters, mirror=replica)

    @staticmethod
    def _make(folder: Path, info: Record) -> None:
        if (folder / "run.json").exists():
            raise _taken(folder)
        if folder.exists() and (not folder.is_dir() or not all(map(_is_unfinished, folder.iterdir()))):
            raise NotARun(f"A new run needs a new or empty folder; {folder} is not empty. Choose another "
                          f"{spelling().setting('out')}.")
        try:
            for part in PARTS:
                (folder / part).mkdir(parents=True, exist_ok=True)
            write_whole(folder / "run.json", serialise(info))
        except OSError:
            for part in PARTS:  # or the next attempt would find the folder not empty
                with contextlib.suppress(OSError):
                    (folder / part).rmdir()
            raise

    # --- the training thread ----------------------------------------------------------------------------------

    def log(self, row: Record) -> None:
        """Queues the scalars of a step; never waits."""
        with self._changed:
            if len(self._rows) < PENDING_ROWS:
                self._rows.append(row)
            else:
                self.dropped += 1

    def commit(
        self, step: int, contents: dict[str, Any], records: Iterable[Record] = (), *, final: bool = False
    ) -> bool:
        """Queues files for one step; waits at most 50 ms for room, then drops them.

        Args:
            step: Training step.
            contents: Arrays or JSON by kind; the arrays now belong to the writer.
            records: Journal records to add after the files.
            final: Takes the place of what waits, rather than being dropped.

        Returns:
            Whether they were queued.
        """
        item = Item(step, contents, list(records), final)
        if os.getpid() != self._pid:
            return False  # a forked child (a data loader's worker) has no writer thread and no business here
        start = time.perf_counter()
        with self._changed:
            room = final or self._changed.wait_for(lambda: self._fits(item), LONGEST_WAIT)
            if room:
                self._queue.append(item)
                self._changed.notify_all()
            self.longest_wait = max(self.longest_wait, time.perf_counter() - start)
        self.dropped += not room
        return room

    def event(self, step: int, name: str, **details: Any) -> None:
        """Queues a journal record of something that happened at a step."""
        self.commit(step, {}, [{"kind": "event", "step": step, "name": name, **details}])

    def flush(self, timeout: float = HUNG_SECONDS) -> bool:
        """Waits until everything that was queued is on the disk; False if it is not after `timeout` seconds."""
        with self._changed:
            self._waited_for += 1  # or rows alone would stay until the writer looks by itself
            self._changed.notify_all()
            try:
                return self._changed.wait_for(lambda: not self._queue and not self._rows, timeout)
            finally:
                self._waited_for -= 1

    def close(self) -> bool:
        """Writes what is left, gives the folder back; idempotent.

        Returns:
            Whether everything that was queued and not counted in `dropped` is on the disk.
        """
        if self.state != "closed" and os.getpid() == self._pid:
            with self._changed:
                self._closing = True
                self._changed.notify_all()
            self._thread.join(HUNG_SECONDS)
            self.state = "closed"
            if self._thread.is_alive():  # in a write that does not return: the folder stays locked
                self._unsaved = True
            else:
                lock.release(self.folder)
            atexit.unregister(self.close)
            if self.replica:
                self.replica.close()
        return not self._unsaved

    def _fits(self, item: Item) -> bool:
        held = sum(waiting.nbytes for waiting in self._queue)
        return not self._queue or (len(self._queue) < QUEUED_ITEMS and held + item.nbytes <= QUEUED_BYTES)

    # --- opening ----------------------------------------------------------------------------------------------

    def _begin_segment(self, from_step: int) -> None:
        self._journal = LineWriter(self.folder / JOURNAL)
        files = sorted((self.folder / METRICS).glob("[0-9]*.jsonl"))
        self._metrics_number = int(files[-1].stem) + 1 if files else 0
        self._metrics = self._metrics_file()
        self.notice = self._set_unlisted_aside() or self._what_was_cut()
        history = History(self.folder)
        number = len(history.segments)
        self._journal.append([{
            "kind": "segment", "segment": number, "from_step": from_step, "max_iters": self.max_iters,
            "metrics_file": self._metrics_number, "time": time.time(),
        }])  # fmt: skip
        history.poll()
        self._live = {(record["kind"], record["step"]) for record in history.live.values()}
        self._remove_leftovers(set(history.live))
        (self.folder / STOP).unlink(missing_ok=True)

    def _set_unlisted_aside(self) -> str | None:
        """Moves files whose lines are lost out of the way, and says so: they may be all that is left of their steps."""
        names = History(self.folder).unlisted()
        if not names:
            return None
        place = self.folder / UNLISTED / f"{self._metrics_number:06d}"
        for name in names:
            (place / name).parent.mkdir(parents=True, exist_ok=True)
            (self.folder / name).rename(place / name)
        return (f"{self.folder / JOURNAL} does not list the {files_of_steps(names)}: it {WHY_UNLISTED}. "
                f"These files were moved to {place}, and the run goes on from what is listed.")

    def _what_was_cut(self) -> str | None:
        """That a torn last line of the journal was removed."""
        if not self._journal.cut:
            return None
        return (f"The last line of {self.folder / JOURNAL} was torn (the process that wrote it was killed); "
                f"{self._journal.cut} bytes were cut off. Nothing that was committed is lost.")

    def _metrics_file(self) -> LineWriter:
        return LineWriter(self.folder / METRICS / f"{self._metrics_number:06d}.jsonl")

    def _remove_leftovers(self, live: set[str]) -> None:
        """Deletes what a killed writer left half done or uncommitted, and what this segment replaces."""
        for part in ("", "ckpt", "snap"):
            for path in (self.folder / part).iterdir():
                name = f"{part}/{path.name}"
                if path.name.startswith(TEMPORARY) or (FILE_NAME.fullmatch(name) and name not in live):
                    path.unlink()

    # --- the writer's thread ----------------------------------------------------------------------------------

    def _work(self) -> None:
        pause = RETRY_SECONDS[0]
        deadline = float("inf")
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._queue or self._closing or (self._waited_for and self._rows),
                                       FLUSH_SECONDS)
                item = self._queue[0] if self._queue else None
                if self._closing:
                    deadline = min(deadline, time.monotonic() + GIVE_UP_SECONDS)
            try:
                self._write(item)
            except Exception as error:
                self.state, self.error = "degraded", error
                if time.monotonic() > deadline or not isinstance(error, OSError):
                    break  # anything but the disk's refusal is a mistake of ours: trying again would not help
                pause = self._rest(pause)
                continue
            self.state, pause = "recording", RETRY_SECONDS[0]
            with self._changed:
                if item:
                    self._queue.popleft()
                    self._changed.notify_all()
                if self._closing and not self._queue and not self._rows:
                    break
        self._finish()

    def _write(self, item: Item | None) -> None:
        """Scalars first: a committed step never lacks the rows before it."""
        self._write_rows()
        if item:
            self._write_item(item)

    def _rest(self, pause: float) -> float:
        """Waits before the disk is tried again; when closing, briefly, and with the final item in front."""
        with self._changed:
            if not self._closing:
                self._changed.wait_for(lambda: self._closing, pause)
                return min(2 * pause, RETRY_SECONDS[1])
            final = [item for item in self._queue if item.final]
            if final and len(final) < len(self._queue):
                self.dropped += len(self._queue) - len(final)
                self._queue = deque(final)
        time.sleep(0.2)
        return pause

    def _write_rows(self) -> None:
        with self._changed:
            rows = list(self._rows)
        if not rows:
            return
        lines = b"".join(encode(lossless(row)) for row in rows)
        if self._metrics.size and self._metrics.size + len(lines) > METRICS_FILE_BYTES:
            self._metrics.sync()
            self._metrics.close()
            self._metrics_number += 1
            self._metrics = self._metrics_file()
        self._metrics.append_bytes(lines)
        with self._changed:
            for _ in rows:
                self._rows.popleft()
            self._changed.notify_all()

    def _write_item(self, item: Item) -> None:
        for kind in list(item.contents):
            if (kind, item.step) not in self._live:
                self._write_file(kind, item.step, item.contents[kind])
            del item.contents[kind]  # a retry goes on after what is committed
        if item.records:
            self._journal.append([lossless(record) for record in item.records])
            item.records = []
        self._journal.sync()
        self._prune()

    def _write_file(self, kind: str, step: int, content: Arrays | Record) -> None:
        data, name = serialise(content), file_name(kind, step)
        write_whole(self.folder / name, data)
        committed = {"kind": kind, "step": step, "file": name, "bytes": len(data), "crc32": f"{zlib.crc32(data):08x}"}
        try:
            self._journal.append([committed | {"time": time.time()}])
        except OSError:
            with contextlib.suppress(OSError):  # the item may be given up: then no line would ever list this file
                (self.folder / name).unlink()
            raise
        self._live.add((kind, step))

    def _prune(self) -> None:
        """Deletes optimizer states that are no longer kept: first the journal line, then the file."""
        steps = {step for kind, step in self._live if kind == "optimizer"}
        for step in sorted(steps - kept_resume_points(steps, self.max_iters)):
            for kind in ("optimizer", "state"):
                if (kind, step) in self._live:
                    name = file_name(kind, step)
                    self._journal.append([{"kind": "removed", "step": step, "file": name, "time": time.time()}])
                    self._live.discard((kind, step))
                    (self.folder / name).unlink(missing_ok=True)

    def _finish(self) -> None:
        self._unsaved = bool(self._queue or self._rows)
        with contextlib.suppress(OSError):
            self._metrics.sync()
            self._journal.sync()
        self._metrics.close()
        self._journal.close()
        with self._changed:
            self._changed.notify_all()
