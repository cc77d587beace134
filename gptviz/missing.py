"""What may have been meant by a name or a path that leads nowhere."""

import difflib
import os
from itertools import islice
from pathlib import Path, PurePath

from gptviz.arguments import briefly
from gptviz.packaged import packaged_runs

_FILES = (".bin", ".ckpt", ".json", ".pt", ".pth", ".safetensors")
_MOST_NAMES = 1000  # of a folder that is looked at
_SHOWN = 4


def is_path(name: str) -> bool:
    """Whether a name is written as a path is, rather than as a model's on a hub ("gpt2", "owner/model").

    Example:
        >>> [is_path(name) for name in ("gpt2", "owner/model", "nope.pt", "runs/demoo", "./gpt2", "a/b/c")]
        [False, False, True, True, True, True]
    """
    folder, slash, rest = name.partition("/")
    return (
        name.startswith((".", "~", "/"))
        or "/" in rest
        or PurePath(name).suffix.lower() in _FILES
        or bool(slash and (folder == "runs" or Path(folder).is_dir()))
    )


def near(path: Path) -> str:
    """A question, which packaged run or which path that is there was meant; "" if none is near.

    Example:
        >>> near(Path("sort")), near(Path("nothing/like/it"))
        ("Did you mean the packaged run 'sorter'?", '')
    """
    if packaged := near_packaged(path.name):
        return f"Did you mean the packaged run {packaged!r}?"
    folder, lost, rest = _where_it_breaks(path)
    found = [folder / name for name in _near(lost, names_in(folder) or [])]
    found = [whole for one in found if (whole := one / rest).exists()] or found
    return f"Did you mean {' or '.join(briefly(str(one)) for one in found)}?" if found else ""


def suggestion(path: Path) -> str:
    """The near names of a path that is not there, or else what lies where it breaks off; for a message."""
    folder, lost, _ = _where_it_breaks(path)
    if (folder / lost).exists():
        return f"{folder / lost} is a file and holds no other. Correct the path."
    names = [name for name in names_in(folder) or [] if not name.startswith(".")]
    where = "The folder you are in" if folder == Path() else str(folder)
    held = f"{where} holds {few(names)}. " if names else ""
    return near(path) or f"{held}Correct the path."


def near_packaged(name: str) -> str | None:
    """The packaged run whose name is nearly this one."""
    return next(iter(_near(name, list(packaged_runs()))), None)


def names_in(folder: Path) -> list[str] | None:
    """Names in a folder, in alphabetical order, the first thousand that the system gives; None if it refuses."""
    try:
        with os.scandir(folder) as entries:
            return sorted(entry.name for entry in islice(entries, _MOST_NAMES))
    except OSError:
        return None


def few(names: list[str]) -> str:
    """The first names, as a sentence lists them.

    Example:
        >>> few(["a", "b", "c", "d", "e"]), few([])
        ("'a', 'b', 'c', 'd', ...", 'nothing')
    """
    return ", ".join(map(briefly, names[:_SHOWN])) + (", ..." if len(names) > _SHOWN else "") if names else "nothing"


def _where_it_breaks(path: Path) -> tuple[Path, str, Path]:
    """The last folder of a path that is there, the first name that is not, and what comes after that."""
    for folder, lost in zip(path.parents, (path, *path.parents), strict=False):
        if folder.is_dir():
            return folder, lost.name, path.relative_to(lost)
    return Path(), path.name, Path()


def _near(name: str, names: list[str]) -> list[str]:
    """Up to two of the names that are nearly this one, whatever the case."""
    lower = {other.lower(): other for other in names}
    return [lower[close] for close in difflib.get_close_matches(name.lower(), lower, n=2, cutoff=0.7)]
