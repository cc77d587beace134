"""Edits made on a board: the model runs with and without them, and the board shows both."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np

from gptviz.analysis.predictions import Predictions, divergence, predictions
from gptviz.arguments import briefly
from gptviz.dashboards.next import N_CHOICES
from gptviz.dashboards.tensors import as_numpy, named, visible_of
from gptviz.requests import fields_of, index_of, number_of
from gptviz.token_ids import check_text
from gptviz.views import View
from gptviz.views.edits import Pass, edits_view
from gptviz.widgets import KEPT_FRAMES

LONGEST_JSON = 20_000  # characters; a patch holds its values
KEPT_BYTES = 500_000_000  # that the traces of the texts shown lately may hold, for their details
SAME_PASS = 1e-3  # of the largest logit: more than rounding
INDENT = "\n    "


@dataclass(frozen=True)
class Made:
    """One edit of a board.

    Args:
        edit: The Edit.
        replaces: What a later edit of the same place replaces.
        line: How it is called, "gv.ablate_head(1, 0)".
        before: Lines that make what the call names.
        place: {"layer", "head"} where it is of one head.
    """

    edit: Any
    replaces: tuple
    line: str
    before: tuple[str, ...] = ()
    place: tuple[int, int] | None = None


class Editing:
    """The edits of one board and the views of its text, with and without them.

    Args:
        model: A GPT.
        tokenizer: Its tokenizer.
        trace: The trace that the board begins with.
        text: Its text.
        make: trace -> the board's views, without edits.
        heads: (trace, edited trace) -> the attention view that shows both.
        names: The activations that the views read.
    """

    def __init__(
        self, model: Any, tokenizer: Any, trace: Any, text: str, make: Callable[[Any], list[View]],
        heads: Callable[[Any, Any], View], names: Sequence[str],
    ):
        self.model, self.tokenizer, self.make, self.heads, self.names = model, tokenizer, make, heads, list(names)
        self.made: list[Made] = []
        self.board: Any = None  # set once the board is there
        self._trace, self._text, self._views = trace, text, make(trace)

    def views(self, _step: int | None, text: str) -> list[View]:
        """The board's views of a text: those of the pass without edits, and what the edits change.

        Raises:
            ValueError: If the text does not fit the model, or an edit does not fit the text.
        """
        from gptviz.trace import record

        if text == self._text:
            return self._compared(self._trace, text, self._views)
        trace = record(self.model, text, self.tokenizer, names=self.names)
        views = self.make(trace)
        shown = self._compared(trace, text, views)
        self._trace, self._text, self._views = trace, text, views
        self.board.kept_frames = max(1, min(KEPT_FRAMES, KEPT_BYTES // max(1, trace.nbytes)))
        return shown

    def _compared(self, trace: Any, text: str, views: list[View]) -> list[View]:
        if not self.made or not any(view.kind == "edits" for view in views):
            return views
        edited = self._edited(trace)
        changed = {"attention": lambda: self.heads(trace, edited), "edits": lambda: self._report(trace, edited, text)}
        return [changed[view.kind]() if view.kind in changed else view for view in views]

    def _edited(self, trace: Any) -> Any:
        """The same ids with the edits; what differs from the trace must come from them alone."""
        from gptviz.interventions import IneffectiveEditError, intervene
        from gptviz.trace import record

        ids = trace.ids.tolist()
        check_same_pass(trace, record(self.model, ids, names=["logits"]))
        try:
            with intervene(self.model, *(made.edit for made in self.made)):
                return record(self.model, ids, self.tokenizer, names=["pattern", "logits"])
        except IneffectiveEditError as error:
            raise ValueError(str(error)) from error

    def _report(self, trace: Any, edited: Any, text: str) -> View:
        passes, words = passes_of([trace, edited], self.tokenizer)
        shown = [{"words": made.line, **({"layer": made.place[0], "head": made.place[1]} if made.place else {})}
                 for made in self.made]
        return edits_view(passes[0], trace.tokens, words, edited=passes[1], edits=shown, python=self.python(text),
                          json=self.json(), change=divergence(as_numpy(trace["logits"]), as_numpy(edited["logits"])))

    def python(self, text: str) -> str:
        """Lines that run the text with the same edits."""
        before = [line for made in self.made for line in made.before]
        calls = ", ".join(["model", *(made.line for made in self.made)])
        run = f"edited = gv.record(model, {text!r}, tokenizer)"
        return "\n".join([*before, f"with gv.intervene({calls}):{INDENT}{run}"])

    def json(self) -> str:
        """The edits as `Edit.from_json` reads them."""
        written = json.dumps([made.edit.to_json() for made in self.made])
        if len(written) > LONGEST_JSON:
            return f"{len(written):,} characters: [edit.to_json() for edit in edits]"
        return written

    def act(self, value: Any) -> dict:
        """Do what the reader asked for; the board shows it, or keeps what it had and says why not.

        Raises:
            ValueError: If it is no edit of this model and text, or changes nothing.
        """
        kept = list(self.made)
        try:
            if self.board.text != self._text:  # a text that the board kept and showed again without asking for it
                self.views(None, self.board.text)
            self.made = self._after(fields_of(value, "An edit"))
            views = self.views(None, self._text)
        except (ValueError, LookupError, TypeError) as error:
            self.made = kept
            raise ValueError(str(error)) from error
        self.board.forget()
        self.board.show(views)
        return {"options": {"edits": {"row": None}}}

    def _after(self, value: dict) -> list[Made]:
        """The edits after a request: one more, one in the place of another, or fewer."""
        if value.get("do") == "clear":
            return []
        if str(value.get("do")) not in MAKERS:
            raise ValueError(f"An edit must be one of {', '.join(MAKERS)} or clear; it is {briefly(value.get('do'))}.")
        new = MAKERS[str(value["do"])](self, value)
        others = [made for made in self.made if made.replaces != new.replaces]
        again = any(made.line == new.line for made in self.made)  # muting a muted head lets it speak again
        return others if again or value.get("factor") == 1 else [*others, new]

    def _place(self, value: dict, *names: str) -> tuple[int, ...]:
        """Where an edit is, as its request says."""
        config = self._trace.config
        sizes = {"layer": config.n_layer, "head": config.n_head, "query": len(self._trace)}
        return tuple(index_of(value, name, sizes[name]) for name in names)

    def _mute(self, value: dict) -> Made:
        from gptviz.interventions import ablate_head

        layer, head = self._place(value, "layer", "head")
        edit = ablate_head(layer, head)
        return Made(edit, ("head", layer, head), f"gv.{edit!r}", place=(layer, head))

    def _scale(self, value: dict) -> Made:
        from gptviz.interventions import scale_head

        layer, head = self._place(value, "layer", "head")
        edit = scale_head(layer, head, number_of(value, "factor"))
        return Made(edit, ("head", layer, head), f"gv.{edit!r}", place=(layer, head))

    def _row(self, value: dict) -> Made:
        from gptviz.interventions import set_pattern

        layer, head, query = self._place(value, "layer", "head", "query")
        edit = set_pattern(layer, head, query, _shares(value.get("row")))
        return Made(edit, ("row", layer, head, query), f"gv.{edit!r}", place=(layer, head))

    def _patch(self, value: dict) -> Made:
        from gptviz.interventions import patch

        layer, head, query = self._place(value, "layer", "head", "query")
        other, name, before = self._other(value)
        source = min(query, len(other) - 1)
        edit = patch(other, "z", layer=layer, head=head, positions=query, source_positions=source)
        return Made(edit, ("patch", layer, head, query), f"gv.{edit!r}".replace("(trace,", f"({name},"), before,
                    (layer, head))

    def _steer(self, value: dict) -> Made:
        from gptviz.interventions import steer
        from gptviz.trace import record

        (layer, query), strength = self._place(value, "layer", "query"), number_of(value, "strength", 1)
        other, name, before = self._other(value)
        own = record(self.model, self._text, self.tokenizer, names=["resid_pre"])["resid_pre", layer][query]
        vector = f"{name}[\"resid_pre\", {layer}][-1] - trace[\"resid_pre\", {layer}][{query}]"
        line = f"gv.steer({layer}, {name}_vector, {strength}, positions={query})"
        before = (*before, f"trace = gv.record(model, {self._text!r}, tokenizer)", f"{name}_vector = {vector}")
        edit = steer(layer, other["resid_pre", layer][-1] - own, strength, positions=query)
        return Made(edit, ("steer", layer, query), line, before)

    def _other(self, value: dict) -> tuple[Any, str, tuple[str, ...]]:
        """The trace of another text, a name for it, and the line that records it."""
        from gptviz.trace import record

        text = value.get("text", "")
        check_text(text)
        if not text:
            raise ValueError("Values come from another text; it is empty. Write one into the field beside.")
        lines = "\n".join(line for made in self.made for line in made.before)
        name = next(name for name in map("other_{}".format, count(1)) if f"{name} =" not in lines)
        return record(self.model, text, self.tokenizer), name, (f"{name} = gv.record(model, {text!r}, tokenizer)",)


def _shares(row: Any) -> list[float]:
    """A row of weights as shares of their sum; all 0 where the sum is."""
    if not isinstance(row, list):
        raise TypeError(f"row must be a list of weights, one for each key; it is {briefly(row)}. Draw one.")
    weights = [number_of({"weight": p}, "weight") for p in row]
    total = sum(weights)
    return [round(p / total, 4) if total else 0.0 for p in weights]


MAKERS: dict[str, Callable[[Editing, dict], Made]] = {
    "mute": Editing._mute, "scale": Editing._scale, "row": Editing._row, "patch": Editing._patch,
    "steer": Editing._steer,
}


def edits_part(trace: Any, _model: Any = None, tokenizer: Any = None) -> View:
    """The view of a board on which nothing is edited yet."""
    (original,), words = passes_of([trace], tokenizer)
    return edits_view(original, trace.tokens, words)


def passes_of(traces: Sequence[Any], tokenizer: Any) -> tuple[list[Pass], list[str]]:
    """What each pass over one text said, and the words that all of them point to."""
    said = [_said(trace) for trace in traces]
    short, words = named(np.stack([one.top_ids for one in said]), visible_of(tokenizer))
    return [Pass(one.loss, ids, one.top_probs) for one, ids in zip(said, short, strict=True)], words


def _said(trace: Any) -> Predictions:
    return predictions(as_numpy(trace["logits"]), trace.ids.cpu().numpy(), N_CHOICES)


def check_same_pass(trace: Any, again: Any) -> None:
    """Raise unless a pass without edits gives what the trace holds: the difference would be taken for the edits'.

    Raises:
        ValueError: If the weights changed since, or edits were active when one of the two was recorded.
    """
    import torch

    recorded, logits = trace["logits"].detach(), again["logits"].detach()
    error = float((logits.float().cpu() - recorded.float().cpu()).abs().max())
    if error > max(SAME_PASS, 8 * torch.finfo(recorded.dtype).eps) * float(recorded.float().abs().max()):
        raise ValueError(f"Edits are compared with the model that made the trace; without them its logits now differ "
                         f"from the recorded ones by up to {error:.2g}. It has learned since, or was edited while the "
                         f"trace was recorded: record again, and explore that.")
