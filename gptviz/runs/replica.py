"""A copy of a run directory at any URL that fsspec knows (s3://, gs://, file:// ...), kept up while the run is written.

The run directory comes first: a replica reads what is committed there and copies it in an order in which the copy stays
a whole run: files, then scalars, then the journal that lists them. A copy that is cut off within a file has that one
damaged until the next attempt (`Run.verify` names it); so may be a step that a resumed run records again.

Where the URL refuses, the replica is "degraded": it says so, tries again ever more rarely, and neither training nor
recording waits for it.
"""

import contextlib
import threading
from pathlib import Path
from typing import Any

from gptviz.runs.faults import CorruptSnapshot, NotARun
from gptviz.runs.files import FILE_NAME, read_committed
from gptviz.runs.history import JOURNAL, METRICS, live_files

EVERY_SECONDS = 10.0  # between two looks for something new
LONGEST_PAUSE = 300.0  # between two attempts while the URL refuses
GOODBYE_SECONDS = 60.0  # how long close() waits for the last files


class Replica:
    """Keeps a copy of a run directory up to date, in a thread of its own.

    Args:
        folder: The run directory.
        url: A folder at any URL that fsspec knows; it is made. It may hold an older copy of the same run.

    Attributes:
        url: Where the copy is.
        error: Why the last attempt failed, or None.

    Raises:
        ValueError: fsspec knows no such URL or lacks the package for it, or another run, or the run itself, is there.

    Example:
        >>> import shutil
        >>> from gptviz.runs import open_run
        >>> folder = getfixture("tmp_path")
        >>> replica = Replica(open_run("sorter").path, f"file://{folder}/copy")
        >>> replica.close()
        True
        >>> open_run(folder / "copy").steps == open_run("sorter").steps
        True
    """

    def __init__(self, folder: Path, url: str) -> None:
        self.folder, self.url = folder, url
        self._files, self._root = open_url(url)
        if "file" in self._files.protocol and Path(self._root).resolve() == folder.resolve():
            raise ValueError(f"A mirror must lie outside of the run directory; {url} is {folder} itself. Choose "
                             "another mirror=.")
        self.error: Exception | None = None
        self._there: dict[str, str] = {}  # checksums of the committed files that the copy has
        self._sizes: dict[str, int] = {}  # of the scalars and the journal as they were copied
        self._known = False  # whether we looked what is there already
        self._closing = threading.Event()
        self._refuse_another_run()
        self._thread = threading.Thread(target=self._work, name="gptviz-replica", daemon=True)
        self._thread.start()

    def close(self, timeout: float = GOODBYE_SECONDS) -> bool:
        """Copies what is left; True if the copy is whole."""
        self._closing.set()
        self._thread.join(timeout)
        if self._thread.is_alive():
            self.error = self.error or TimeoutError(f"{self.url} did not answer for {timeout:g} s")
        return self.error is None

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
        self._refuse_another_run(unreachable=True)
        with contextlib.suppress(FileNotFoundError):
            known = live_files(self._files.cat_file(f"{self._root}/{JOURNAL}"))
            # names that are not ours stay untouched: whoever writes there must not make us remove other files
            self._there = {name: str(one["crc32"]) for name, one in known.items() if FILE_NAME.fullmatch(str(name))}
        self._put("run.json", (self.folder / "run.json").read_bytes())
        self._known = True

    def _refuse_another_run(self, unreachable: bool = False) -> None:
        try:
            there = self._files.cat_file(f"{self._root}/run.json")
        except FileNotFoundError:
            return
        except Exception:
            if unreachable:
                raise
            return  # the thread will say so, and try again
        if there != (self.folder / "run.json").read_bytes():
            raise NotARun(_taken(self.url))

    def _put_grown(self, name: str, content: bytes) -> None:
        """A file that only grows."""
        if self._sizes.get(name) != len(content):
            self._put(name, content)
            self._sizes[name] = len(content)

    def _put(self, name: str, content: bytes) -> None:
        path = f"{self._root}/{name}"
        self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
        self._files.pipe_file(path, content)


def open_url(url: str) -> tuple[Any, str]:
    """The file system of a URL and the path in it.

    Raises:
        ValueError: fsspec knows no such URL, or lacks the package for it.
    """
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise ValueError(f"mirror must be a URL that fsspec knows, such as s3://bucket/run or file:///disk/run; "
                         f"{url!r} is not ({error}). Install the package that it names, or choose another mirror=."
                         ) from error
    return files, root.rstrip("/")


def check_new(url: str) -> None:
    """Sees that a new run may be copied there, before anything is made.

    Raises:
        ValueError: fsspec knows no such URL, or a run is there.
    """
    files, root = open_url(url)
    taken = False
    with contextlib.suppress(Exception):  # one that does not answer now: the replica will say so, and try again
        taken = files.exists(f"{root}/run.json")
    if taken:
        raise NotARun(_taken(url))


def _taken(url: str) -> str:
    return (f"A mirror must be new, empty or hold an older copy of the same run; {url} holds another run. Choose "
            "another mirror=.")
