"""One trace as a board; with a model, of any text that the reader types into it."""

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from gptviz.arguments import briefly
from gptviz.dashboards.edits import Editing, edits_part
from gptviz.dashboards.head_scores import head_scores_part
from gptviz.dashboards.lens import lens_part
from gptviz.dashboards.next import actions_of, next_part, text_part
from gptviz.dashboards.tensors import as_numpy
from gptviz.views import Check, View, attention_view
from gptviz.widgets import Board

DIFFERENCE = {"head": {"compare": "difference"}}  # what the panel of the large head begins with
CALLED, MOST_CALLED = 16, 32  # tokens and signs of a text that name it beside another


@dataclass(frozen=True)
class Part:
    """One part of a board: what it needs of a trace, and how it is made.

    Args:
        names: The activations it reads.
        make: (trace, model, tokenizer) -> View.
        needs_model: Whether it uses weights.
    """

    names: tuple[str, ...]
    make: Callable[[Any, Any, Any], View]
    needs_model: bool = True


def parts() -> dict[str, Part]:
    """Every part of the board by name, in the order of the page."""
    # Here, not above, because of torch: a recorded run opens without it.
    from gptviz.dashboards import circuits, decomposition, querykey, writes
    from gptviz.dashboards.embeddings import embeddings_part, positions_part

    return {
        "heads": Part(("pattern",), lambda trace, *_: heads_part(trace), needs_model=False),
        "circuits": Part(circuits.NAMES, circuits.circuits_part),
        "composition": Part((), circuits.composition_part),
        "embeddings": Part((), embeddings_part),
        "positions": Part((), positions_part),
        "edits": Part(("pattern", "logits"), edits_part),
        "head_scores": Part(("pattern",), lambda trace, *_: head_scores_part(trace), needs_model=False),
        "text": Part(("logits",), text_part, needs_model=False),
        "next": Part(("logits",), next_part, needs_model=False),
        "lens": Part(("resid_pre", "resid_post", "logits"), lens_part),
        "writes": Part(writes.NAMES, writes.writes_part),
        "querykey": Part(querykey.NAMES, querykey.querykey_part, needs_model=False),
        "decomposition": Part(decomposition.NAMES, decomposition.decomposition_part),
    }


def explore(
    trace: Any, model: Any = None, tokenizer: Any = None, *, views: Sequence[str] | None = None, title: str = "",
    other: Any = None, compared: Any = None,
) -> Board:
    """The inside of one forward pass, linked; with a model and its tokenizer, of any text typed into the board.

    Args:
        trace: A Trace of all layers, heads and positions; of all names, or of those that the chosen views read.
        model: The model: for the views that read weights, and for other texts.
        tokenizer: Its tokenizer.
        views: Which parts, by name; all that the trace and model allow by default. The names are in
            `gptviz.dashboards.parts()`.
        title: The model's name.
        other: A second Trace, of as many tokens: the heads show either, or the difference, until something is edited.
            The board opens on the difference, at the weight that changed most.
        compared: What the two are called: ("clean", "ablated"). By default the part of their texts where they begin
            to differ, or "this" and "the other" where they are of one text.

    Returns:
        A Board; the value of a notebook cell draws it, `gptviz.export_html(board, path)` keeps it.

    Raises:
        ValueError: If a chosen view needs a name, or the model, that is not there; if only some layers, heads or
            positions were recorded; if a tokenizer is given without the model; or if `compared` is not two names.

    Example:
        >>> from gptviz.loading import load
        >>> from gptviz.trace import record
        >>> model, tokenizer = load("sorter")
        >>> board = explore(record(model, "CBABBC", tokenizer), model, tokenizer)
        >>> board.layer, board.head = 1, 2
    """
    if model is None and tokenizer is not None:
        raise ValueError("explore() shows other texts with a model and its tokenizer; the model is missing. "
                         "Pass both or neither.")
    chosen = _chosen(trace, model, views)
    text = tokenizer.decode(trace.ids.tolist()) if tokenizer is not None else "".join(trace.tokens)
    editable = model is not None and tokenizer is not None
    if other is not None:
        _check_other(trace, other)
    called = _called(trace, other, compared)
    most_changed = functools.cache(lambda: _most_changed(trace, other))  # a look at every weight of both

    def make(one: Any) -> list[View]:
        made = trace_views(one, tokenizer, model=model, views=chosen)
        if other is None or one is not trace:
            return made
        return [_heads_of_both(one, other, called, bool(most_changed())) if view.kind == "attention" else view
                for view in made]

    names = sorted({name for part in chosen for name in parts()[part].names})
    editing = Editing(model, tokenizer, trace, text, make, heads_part, names) if editable else None
    shown = editing.views(None, text) if editing else make(trace)
    board = Board(shown, title=title, facts=facts(trace.config), text=text, limit=trace.config.block_size,
                  editable=editable, source=editing.views if editing else None,
                  actions=actions_of(model, tokenizer) | {"edit": editing.act} if editing else None,
                  **most_changed())
    if editing:
        editing.board = board
    board.picture = lambda: picture(board)
    return board


def _chosen(trace: Any, model: Any, views: Sequence[str] | None) -> list[str]:
    """The names of the parts to show; what was asked for must be there, the rest is left out where it is not."""
    known = parts()
    unknown = set(views or ()) - set(known)
    if unknown or (views is not None and not list(views)):
        raise ValueError(f"views must be some of {', '.join(known)}; given were {list(views or ())}.")
    if views is None:
        always = ("heads", "text")
        views = [name for name, part in known.items() if name in always or _missing(part, trace, model) is None]
    for name in views:
        if lack := _missing(known[name], trace, model):
            raise ValueError(f"The view {name!r} needs {lack}. Record without names=, and pass the model.")
    return list(views)


def _missing(part: Part, trace: Any, model: Any) -> str | None:
    """What a part would need that is not there, in words."""
    absent = [name for name in part.names if name not in trace]
    if absent:
        return f"{', '.join(absent)} of the trace; it holds {', '.join(trace.names)}"
    return "the model" if part.needs_model and model is None else None


def trace_views(
    trace: Any, tokenizer: Any = None, *, model: Any = None, views: Sequence[str] = ("heads", "text")
) -> list[View]:
    """The views of one trace, by the names of `parts()`: all heads, the text by loss, and what more is asked for.

    Raises:
        ValueError: If not all layers, heads and positions were recorded, or a view needs what is not there.
    """
    known = parts()
    for name in views:
        if lack := _missing(known[name], trace, model):
            raise ValueError(f"A board needs {lack}. Record without names=.")
    config, n = trace.config, len(trace)
    recorded = (len(trace.layers), len(trace.heads), len(trace.positions))
    if recorded != (config.n_layer, config.n_head, n):
        raise ValueError(f"A board needs all {config.n_layer} layers, {config.n_head} heads and {n} positions; "
                         f"recorded are {recorded[0]}, {recorded[1]} and {recorded[2]}. "
                         f"Record without layers=, heads=, positions=.")
    return [known[name].make(trace, model, tokenizer) for name in views]


def heads_part(trace: Any, other: Any = None, compared: tuple[str, str] = ("original", "edited")) -> View:
    """All heads, with the identities that the trace satisfies; beside them those of another trace as long."""
    patterns, others = ([as_numpy(one["pattern", layer]) for layer in one.layers] if one is not None else None
                        for one in (trace, other))
    heads = attention_view(patterns or [], trace.tokens, other=others, compared=compared,
                           other_tokens=other.tokens if other is not None else None)
    checks = tuple(Check(name, check.error, check.bound) for name, check in trace.check().items())
    return dataclasses.replace(heads, checks=checks or heads.checks)


def _heads_of_both(trace: Any, other: Any, called: tuple[str, str], changed: bool) -> View:
    """The heads of two traces, which open on the difference; a view without one says so."""
    said = {"options": DIFFERENCE} | ({} if changed else {"unchanged": True})
    return dataclasses.replace(heads_part(trace, other, called), content=said)


def _most_changed(trace: Any, other: Any) -> dict[str, Any]:
    """Where the weight is that differs most between two traces; nothing where none does, or there is one trace."""
    if other is None:
        return {}
    most, place = 0.0, {}
    for layer in trace.layers:
        change = np.abs(np.nan_to_num(as_numpy(other["pattern", layer]) - as_numpy(trace["pattern", layer])))
        if change.max() > most:
            head, query, key = (int(at) for at in np.unravel_index(int(change.argmax()), change.shape))
            most, place = float(change.max()), {"layer": layer, "head": head, "query": query, "key": key}
    return place


def _check_other(trace: Any, other: Any) -> None:
    sizes = [(len(one.layers), len(one.heads), len(one)) for one in (trace, other)]
    if sizes[0] != sizes[1] or "pattern" not in other:
        raise ValueError(f"other must be a Trace with the pattern of as many layers, heads and tokens: {sizes[0]}; "
                         f"it has {sizes[1]}{'' if 'pattern' in other else ' and no pattern'}. Record a text as long.")


def _called(trace: Any, other: Any, compared: Any) -> tuple[str, str]:
    """What two traces are called: as the reader wishes, else by their texts, else by their order."""
    if compared is not None:
        two = isinstance(compared, tuple | list) and [type(name) for name in compared] == [str, str]
        if other is None or not two:
            raise ValueError(f"compared must be what trace and other are called, such as ('clean', 'ablated'); it is "
                             f"{briefly(compared)}{' without other=' if other is None else ''}. Pass both traces and "
                             f"two names.")
        return compared[0], compared[1]
    if other is None or trace.tokens == other.tokens:
        return "this", "the other"
    apart = [at for at, (one, two) in enumerate(zip(trace.tokens, other.tokens, strict=True)) if one != two]
    first = max(0, apart[0] - CALLED // 2) if len(trace) > CALLED else 0
    return _quoted(trace.tokens, first), _quoted(other.tokens, first)


def _quoted(tokens: Sequence[str], first: int) -> str:
    """Some tokens from one on: ‘…the·red·door…’."""
    words = "".join(tokens[first : first + CALLED])[:MOST_CALLED]
    before, after = "…" if first else "", "…" if "".join(tokens[first:]) != words else ""
    return f"‘{before}{words}{after}’"


def facts(config: Any) -> list[str]:
    """What a reader wants to know of a model in one line."""
    wide, layers = config.n_embd, config.n_layer
    block = 12 * wide**2 + (13 if config.bias else 2) * wide
    tables = (config.vocab_size * (1 if config.tie_weights else 2) + config.block_size) * wide
    count = layers * block + tables + (2 if config.bias else 1) * wide
    size = f"{count / 1e6:.1f} M" if count >= 1e5 else f"{count / 1e3:.1f} k"
    return [f"{layers} layers × {config.n_head} heads", f"d_model {wide}", f"block_size {config.block_size}",
            f"{size} parameters"]


def picture(board: Board) -> bytes:
    """A PNG of the heads, the one that the board opens on large, for readers without a kernel."""
    from gptviz import figures

    views, look, _ = board.shown()
    return figures.picture(views[0], **look)
