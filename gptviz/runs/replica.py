"""A copy of a run directory at any URL that fsspec knows (s3://, gs://, file:// ...), kept up while the run is written.

The run directory comes first: a replica reads what is committed there and copies it in an order in which the copy stays
a whole run: files, then scalars, then the journal that lists them. A copy that is cut off within a file has that one
damaged until the next attempt (`Run.verify` names it); so may be a step that a resumed run records again.

Where the URL refuses or does not answer, the replica is "degraded": it says so, tries again ever more rarely, and
neither training nor recording waits for it. Only its first look is waited for, a few seconds: another run that is there
must be refused before anything is made.
"""

import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from gptviz.runs.faults import CorruptSnapshot, NotARun
from gptviz.runs.files import FILE_NAME, read_committed
from gptviz.runs.history import JOURNAL, METRICS, live_files

EVERY_SECONDS = 10.0  # between two looks for something new
LONGEST_PAUSE = 300.0  # between two attempts while the URL refuses
FIRST_LOOK_SECONDS = 5.0  # how long a training waits to hear whether another run is there
GOODBYE_SECONDS = 60.0  # how long close() waits for the last files


class Replica:
    """Keeps a copy of a run directory up to date, in a thread of its own, from `start` on.

    Args:
        folder: The run directory; it need not be there before `start`.
        url: A folder at any URL that fsspec knows; it is made. It may hold an older copy of the same run.

    Attributes:
        url: Where the copy is.
        error: Why the last attempt failed, or None.

    Raises:
        ValueError: fsspec knows no such URL or lacks the package for it, another run is there, or it is the run
            directory itself, a folder in it, or one around it. Nothing is made or written then.

    Example:
        >>> import shutil
        >>> from gptviz.runs import open_run
        >>> folder = getfixture("tmp_path")
        >>> replica = Replica(open_run("sorter").path, f"file://{folder}/copy").start()
        >>> replica.close()
        True
        >>> open_run(folder / "copy").steps == open_run("sorter").steps
        True
    """

    def __init__(self, folder: Path, url: str) -> None:
        check_place(url, folder)
        self.folder, self.url = folder, url
        self.error: Exception | None = None
        self._files: Any = None  # until the URL has answered
        self._root = ""
        self._there: dict[str, str] = {}  # checksums of the committed files that the copy has
        self._sizes: dict[str, int] = {}  # of the scalars and the journal as they were copied
        self._known = False  # whether we looked what is there already
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="gptviz-replica", daemon=True)
        self._first_look()

    def start(self) -> "Replica":
        """Begins to copy."""
        self._thread.start()
        return self

    def close(self) -> bool:
        """Copies what is left; True if the copy is whole."""
        self._closing.set()
        self._thread.join(GOODBYE_SECONDS)
        if self._thread.is_alive():
            self.error = self.error or TimeoutError(f"no answer within {GOODBYE_SECONDS:g} s")
        return self.error is None

    def _first_look(self) -> None:
        """Refuses another run that is there; a URL that fails or does not answer is looked at again while it trains."""
        answer = _in_a_thread(self._reach)
        try:
            self._files, self._root = answer.result(FIRST_LOOK_SECONDS)
        except (_NoURL, NotARun):
            raise
        except Exception as error:  # of any of a dozen libraries
            silent = isinstance(error, TimeoutError) and not str(error)  # the wait's own
            self.error = TimeoutError(f"no answer within {FIRST_LOOK_SECONDS:g} s") if silent else error

    def _reach(self) -> tuple[Any, str]:
        """The file system, which may connect only now, and the path in it, where no other run is."""
        files, root = open_url(self.url)
        with contextlib.suppress(FileNotFoundError):
            there, own = files.cat_file(f"{root}/run.json"), self.folder / "run.json"
            if not own.exists() or there != own.read_bytes():
                raise NotARun(f"A mirror must be new, empty or hold an older copy of the same run; {self.url} holds "
                              "another run. Choose another mirror=.")
        return files, root

    # --- the replica's thread ---------------------------------------------------------------------------------

    def _work(self) -> None:
        pause = EVERY_SECONDS
        while True:
            last = self._closing.wait(pause)
            try:
                self._copy_at_rest()
            except Exception as error:  # any of a dozen libraries', and none may reach the training
                self.error, pause = error, min(2 * pause, LONGEST_PAUSE)
            else:
                self.error, pause = None, EVERY_SECONDS
            if last:
                return

    def _copy_at_rest(self) -> None:
        """Copies; again where a file was removed after the journal had been read."""
        try:
            self._copy()
        except CorruptSnapshot:
            self._copy()

    def _copy(self) -> None:
        """Files, then scalars, then the journal; what the journal no longer lists goes last."""
        if not self._known:
            self._look()
        journal = (self.folder / JOURNAL).read_bytes()
        journal = journal[: journal.rfind(b"\n") + 1]
        live = live_files(journal)
        for name, record in live.items():
            if self._there.get(name) != record["crc32"]:
                self._put(name, read_committed(self.folder, record))
                self._there[name] = record["crc32"]
        for path in sorted((self.folder / METRICS).glob("[0-9]*.jsonl")):
            self._put_grown(f"{METRICS}/{path.name}", path.read_bytes())
        self._put_grown(JOURNAL, journal)
        for name in set(self._there) - set(live):
            with contextlib.suppress(FileNotFoundError):
                self._files.rm_file(f"{self._root}/{name}")
            del self._there[name]

    def _look(self) -> None:
        """What an earlier life of this run has copied already; its journal lists only files that are whole."""
        self._files, self._root = self._reach()
        with contextlib.suppress(FileNotFoundError):
            known = live_files(self._files.cat_file(f"{self._root}/{JOURNAL}"))
            # names that are not ours stay untouched: whoever writes there must not make us remove other files
            self._there = {name: str(one["crc32"]) for name, one in known.items() if FILE_NAME.fullmatch(str(name))}
        self._put("run.json", (self.folder / "run.json").read_bytes())
        self._known = True

    def _put_grown(self, name: str, content: bytes) -> None:
        """A file that only grows."""
        if self._sizes.get(name) != len(content):
            self._put(name, content)
            self._sizes[name] = len(content)

    def _put(self, name: str, content: bytes) -> None:
        path = f"{self._root}/{name}"
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, content)


class _NoURL(ValueError):
    """What was given is no URL that fsspec can open."""

    def __init__(self, url: str, error: Exception) -> None:
        super().__init__("mirror must be a URL that fsspec knows, such as s3://bucket/run or file:///disk/run; "
                         f"{url!r} is not ({error}). Install the package that it names, or choose another mirror=.")


def open_url(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it; some file systems connect here, and may not answer.

    Raises:
        ValueError: fsspec knows no such URL, or lacks the package for it.
    """
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise _NoURL(url, error) from error
    return files, root.rstrip("/")


def check_place(url: str, folder: Path) -> None:
    """Sees that a URL is one, and that its folder and the run directory do not hold each other; connects to nothing.

    Raises:
        ValueError: fsspec knows no such URL or lacks the package for it, or it is, is in or holds the run directory.

    Example:
        >>> check_place("file:///disk/copy", Path("/disk/run"))
        >>> check_place("/disk", Path("/disk/run"))
        Traceback (most recent call last):
        ...
        ValueError: A mirror must lie beside the run directory, not in or around it; /disk holds /disk/run...
    """
    from fsspec.implementations.local import LocalFileSystem

    if not url.strip():  # fsspec takes it for the current folder
        raise ValueError(f"A mirror must be a folder or a URL that fsspec knows; {url!r} was given. Leave mirror= "
                         "out, or name a place, such as s3://bucket/run.")
    place = url.rpartition("::")[2]  # of a chain such as simplecache::s3://bucket/run the last is where it is kept
    if not issubclass(_kinds(url)[-1], LocalFileSystem):
        return
    there, own = Path(LocalFileSystem._strip_protocol(place)).resolve(), folder.resolve()
    relation = "is" if there == own else "lies in" if own in there.parents else "holds" if there in own.parents else ""
    if relation:
        raise ValueError(f"A mirror must lie beside the run directory, not in or around it; {url} {relation} {folder}. "
                         "Choose another mirror=.")


def _kinds(url: str) -> list[type]:
    """The classes of the file systems that a URL names, without opening any."""
    import fsspec

    *before, last = url.split("::")
    names = [fsspec.core.split_protocol(part)[0] or part for part in before]
    try:
        return [fsspec.get_filesystem_class(name) for name in [*names, fsspec.core.split_protocol(last)[0] or "file"]]
    except (ImportError, ValueError) as error:
        raise _NoURL(url, error) from error


def _in_a_thread(work: Callable[[], Any]) -> "Future[Any]":
    """What `work` gives or raises, later; a process can end while it still hangs."""
    answer: Future[Any] = Future()

    def answered() -> None:
        try:
            answer.set_result(work())
        except BaseException as error:
            answer.set_exception(error)

    threading.Thread(target=answered, name="gptviz-replica-look", daemon=True).start()
    return answer
