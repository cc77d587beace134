"""What the journal says: which files of a run count, and in which order things happened."""

import contextlib
import threading
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from gptviz.runs.files import FILE_NAME, step_of
from gptviz.runs.journal import LineReader, Record, decode, restored

JOURNAL = "journal.jsonl"
METRICS = "metrics"
FILES = ("weights", "optimizer", "state", "snapshot")


class History:
    """The journal of a run, replayed; follows it while another process writes.

    A run that is resumed from step 300 starts a new segment: what an earlier segment recorded after step 300 no
    longer counts, so that no curve ever goes backwards.

    Attributes:
        live: Committed files that count, by name.
        known: Names of all files that were ever committed.
        segments: One record per start: from_step, max_iters, the first metrics file.
        events: Things that happened at a step (a loss that is not finite, a changed number of threads).
        observations: What each recorded step measured about itself, by step.
        end: How the newest segment ended, or None while it runs (or if it was killed).
    """

    def __init__(self, folder: Path) -> None:
        """Reads the journal as it is now."""
        self.folder = folder
        self.lines = LineReader(folder / JOURNAL)
        self._turn = threading.Lock()  # a live board follows a run in a thread of its own
        self.live: dict[str, Record] = {}
        self.known: set[str] = set()
        self.segments: list[Record] = []
        self.events: list[Record] = []
        self.observations: dict[int, Record] = {}
        self.end: Record | None = None
        self.poll()

    def poll(self) -> None:
        """Takes in what was committed since the last call."""
        with self._turn:
            for record in self.lines.poll():
                try:
                    self._replay(record)
                except (KeyError, TypeError, ValueError, AttributeError):  # whole, but not a record of ours
                    self.lines.corrupt.append(self.lines.offset)

    def files(self, kind: str) -> dict[int, Record]:
        """The committed files of a kind ("weights", "optimizer", "state", "snapshot") by step, ascending."""
        found = {record["step"]: record for record in list(self.live.values()) if record["kind"] == kind}
        return dict(sorted(found.items()))

    def unlisted(self) -> list[str]:
        """Names of files that lie in a folder at rest and that no line mentions, if they show that lines are lost.

        A process that is killed leaves files of one step so, the one that it was writing: one step is no sign, and
        what was lost with a line or two at the very end cannot be told from that.
        """
        names = [f"{part}/{path.name}" for part in ("ckpt", "snap") for path in (self.folder / part).glob("[0-9]*")]
        self.poll()  # after the folder was listed: a writer may have committed meanwhile
        found = sorted(name for name in names if FILE_NAME.fullmatch(name) and name not in self.known)
        return found if len(set(map(step_of, found))) > 1 else []

    def resume_steps(self) -> list[int]:
        """Steps at which weights, optimizer and state are all there."""
        optimizer, state = self.files("optimizer"), self.files("state")
        return [step for step in self.files("weights") if step in optimizer and step in state]

    def _replay(self, record: Record) -> None:
        kind = record.get("kind")
        _follow(self.live, record)
        if kind in FILES:
            self.known.add(record["file"])
        if kind == "segment":
            self._start(record)
        elif kind == "event":
            self.events = [event for event in self.events if _what(event) != _what(record)] + [restored(record)]
        elif kind == "observation":
            self.observations[int(record["step"])] = record
        elif kind == "end":
            self.end = restored(record)

    def _start(self, segment: Record) -> None:
        step, self.end = segment["from_step"], None
        # An event with a score was found in an observation, and the step that training goes on from keeps its own.
        self.events = [event for event in self.events if event["step"] < step + ("score" in event)]
        self.observations = {at: one for at, one in self.observations.items() if at <= step}
        self.segments.append(segment)


def spread_over_steps(observations: Iterable[Record]) -> dict[str, np.ndarray]:
    """The distributions of observations as arrays `[step row share]`, by kind and part: see `Run.distributions`."""
    seen = [one for one in observations if one.get("distributions")]
    rows = [{f"{kind}/{part}": values for kind, parts in one["distributions"].items() for part, values in parts.items()}
            for one in seen]
    whole = {name: np.full(np.shape(values), np.nan) for row in rows for name, values in row.items()}
    found = {name: np.array([row.get(name, missing) for row in rows], float) for name, missing in whole.items()}
    return {"step": np.array([one["step"] for one in seen]), **found} if seen else {}


def live_files(journal: bytes) -> dict[str, Record]:
    """The records of the files that count in the bytes of a journal, by name; a torn or damaged line is left out."""
    live: dict[str, Record] = {}
    for record in map(decode, journal.split(b"\n")):
        if record is not None:
            with contextlib.suppress(KeyError, TypeError, ValueError):
                _follow(live, record)
    return live


def _follow(live: dict[str, Record], record: Record) -> None:
    """What a journal record does to the files that count."""
    kind = record.get("kind")
    if kind in FILES:
        live[record["file"]] = record | {"step": int(record["step"])}
    elif kind == "removed":
        live.pop(record["file"], None)
    elif kind == "segment":
        for name in [name for name, one in live.items() if one["step"] > record["from_step"]]:
            del live[name]


def _what(event: Record) -> tuple:
    """What makes two records the same event: a step that is trained again finds its events again."""
    return tuple(event.get(name) for name in ("step", "name", "layer", "head"))


class Scalars:
    """The rows of the metrics files of a run, followed while another process writes."""

    def __init__(self, folder: Path) -> None:
        """Starts with nothing read."""
        self.folder = folder / METRICS
        self._readers: dict[int, LineReader] = {}
        self._rows: dict[int, list[Record]] = {}
        self._turn = threading.Lock()

    def rows(self, segments: list[Record]) -> list[Record]:
        """All rows that count, in the order of their steps."""
        numbers = sorted(int(path.stem) for path in self.folder.glob("[0-9]*.jsonl") if path.stem.isdigit())
        counted: list[Record] = []
        with self._turn:
            for number in numbers:
                for segment in segments:
                    if segment["metrics_file"] == number:
                        counted = [row for row in counted if row["step"] < segment["from_step"]]
                counted += self._file(number)
        return counted

    @property
    def corrupt(self) -> list[tuple[Path, int]]:
        """Files and byte offsets of damaged lines."""
        return [(reader.path, offset) for reader in self._readers.values() for offset in reader.corrupt]

    def missing(self, segments: list[Record]) -> list[Path]:
        """Files that a part of the training began and that are not there."""
        files = [self.folder / f"{segment['metrics_file']:06d}.jsonl" for segment in segments]
        return [file for file in dict.fromkeys(files) if not file.is_file()]

    def _file(self, number: int) -> Iterable[Record]:
        reader = self._readers.setdefault(number, LineReader(self.folder / f"{number:06d}.jsonl"))
        rows = self._rows.setdefault(number, [])
        rows += map(restored, reader.poll())
        return rows
