"""The runs that come with gptviz: trained models and their histories that need no network."""

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent
# A wheel carries the runs inside the package, a checkout beside it.
_SHELVES = (_PACKAGE / "assets" / "runs", _PACKAGE.parent / "assets" / "runs")


def packaged_runs() -> dict[str, Path]:
    """Names and run directories of the packaged runs, in alphabetical order.

    Returns:
        Name (`"sorter"`) to the run directory. Empty when nothing is packaged.

    Example:
        >>> all((folder / "run.json").is_file() for folder in packaged_runs().values())
        True
    """
    for shelf in _SHELVES:
        if shelf.is_dir():
            return {path.parent.name: path.parent for path in sorted(shelf.glob("*/run.json"))}
    return {}
