"""Two runs on one slider: the same probe text in both, heads matched by behaviour, and what differs most."""

from collections.abc import Sequence
from typing import Any

from gptviz.analysis.comparison import common_probe, common_steps, differences, match_heads
from gptviz.dashboards.explore import facts, picture
from gptviz.dashboards.watch import curve_view, snapshot_views
from gptviz.runs import Run, open_run
from gptviz.views import View, attention_view, compare_view, training_view
from gptviz.widgets import Board


def compare(a: Any, b: Any) -> Board:
    """Two recorded runs with one slider over the steps that both recorded.

    The heads are those of the first run; the board shows them beside those of the second or as the difference, second
    minus first (the choice above the heads). A head of the first run is paired with the head of the same layer in the
    second that attends most like it at the shown step, because two seeds number the same heads differently. The list
    names what differs most at that step. Everything comes from what was recorded, without torch.

    Args:
        a: A Run, or the path or name of one.
        b: Another, with the same layers, heads and at least one equal probe text.

    Raises:
        ValueError: They share no step or no probe text, or their models have other layers or heads.

    Example:
        >>> board = compare("sorter", "sorter")
        >>> [view.kind for view in board.views]
        ['attention', 'tokens', 'compare', 'training']
    """
    a, b = (_opened(run) for run in (a, b))
    shapes = [(run.config.n_layer, run.config.n_head) for run in (a, b)]
    if shapes[0] != shapes[1]:
        raise ValueError(f"Runs are compared head by head, so both must have the same layers and heads; {a.path} has "
                         f"{shapes[0][0]} x {shapes[0][1]} and {b.path} {shapes[1][0]} x {shapes[1][1]}.")
    steps, probes, names = common_steps(a, b), common_probe(a, b), _names(a, b)
    curves = _curves(a, b, names)

    def source(step: int | None, _text: str) -> Sequence[View]:
        chosen = steps[-1] if step is None else step
        _, text = snapshot_views(a, chosen, probes[0])
        listed = compare_view(differences(a, b, chosen), names)
        return [_heads(a, b, chosen, probes, names), text, listed, curves]

    board = Board(source(None, ""), name="compare", title=f"{names[0]} and {names[1]}", facts=_facts(a, b, names),
                  steps=steps, source=source, text=str(a.probes[probes[0]]), limit=a.config.block_size)
    board.picture = lambda: picture(board)
    return board


def _heads(a: Any, b: Any, step: int, probes: tuple[int, int], names: tuple[str, str]) -> View:
    """The heads of the first run, each with the one of the second that attends most like it."""
    snapshots = a.snapshot(step, probes[0]), b.snapshot(step, probes[1])
    ours, theirs = (snapshot.attention() for snapshot in snapshots)
    if all(snapshot.nonfinite is None for snapshot in snapshots):
        theirs = theirs[[[layer] for layer in range(len(theirs))], match_heads(ours, theirs)]
    return attention_view(ours, snapshots[0].tokens, other=theirs, compared=names)


def _facts(a: Any, b: Any, names: tuple[str, str]) -> list[str]:
    """What a reader wants to know of both models; once where it is the same."""
    ours, theirs = facts(a.config), facts(b.config)
    return ours if ours == theirs else [f"{names[0]}: {', '.join(ours)}", f"{names[1]}: {', '.join(theirs)}"]


def _curves(a: Any, b: Any, names: tuple[str, str]) -> View:
    """The loss curves of both, each series by its run's name."""
    series, known = {}, 0
    for run, name in ((a, names[0]), (b, names[1])):
        view = curve_view(run)
        known = max(known, view.content.get("known", 0))
        for i, one in enumerate(view.labels["series"]):
            series[f"{name} {one}"] = (view.arrays[f"steps_{i}"], view.arrays[f"values_{i}"])
    return training_view(series, known=known)


def _names(a: Any, b: Any) -> tuple[str, str]:
    return (a.name, b.name) if a.name != b.name else (f"{a.name} (1)", f"{b.name} (2)")


def _opened(run: Any) -> Any:
    """A Run, from itself or its path or name."""
    if type(run).__name__ == "Trace":  # by its name: a recorded run opens without torch
        raise TypeError("compare() shows two recorded runs; it was given a Trace. Two traces of one model: "
                        "gptviz.explore(trace, model, tokenizer, other=second_trace).")
    return run if isinstance(run, Run) else open_run(run)
