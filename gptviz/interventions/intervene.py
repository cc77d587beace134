"""Putting edits on a model for the length of a `with` block, and reporting what they did."""

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from gptviz.interventions.edit import Edit, Reached, Site, check_site, counts_from_end, reach
from gptviz.model import GPT
from gptviz.naming import AXES, UnknownNameError
from gptviz.trace import unwrapped

ROUNDING = 1e-5
"""Relative to the root mean square of the values, a change below this is rounding: fused and stepwise attention differ
by as much."""

AFTER_THE_BLOCKS = {"ln_final_scale", "ln_final", "logits"}
"""Names that hold only the last position when the model is called without targets."""


class IneffectiveEditError(RuntimeError):
    """An edit never fired, or changed nothing it was asked to change."""


class Effect:
    """What one edit did so far.

    Attributes:
        edit: The edit.
        fired: How often it replaced a value: once for each hook point and forward pass.
        positions: The positions it acted on, counted from 0.
        largest_change: The largest absolute difference between a new and an old number.
        changed: Whether a difference was larger than rounding.
    """

    def __init__(self, edit: Edit):
        self.edit = edit
        self.fired = 0
        self.positions: set[int] = set()
        self.largest_change = 0.0
        self.changed = False
        self.missed: set[int] = set()
        self.silent: dict[object, str] = {}
        """The hooks that have not replaced a value yet, and their places."""

    def note(self, old: Tensor, new: Tensor, reached: Reached) -> None:
        """One more time, at these positions."""
        self.fired += 1
        self.positions.update(reached.positions)
        change, bound = _change(old.detach(), new.detach())
        if not change <= self.largest_change:
            self.largest_change = change
        self.changed |= not change <= bound  # a NaN is a change

    def __repr__(self) -> str:
        where = _ranges(sorted(self.positions))
        return f"{self.edit!r}: fired {self.fired}x at positions {where}, largest change {self.largest_change:.3g}"


class Report(Sequence[Effect]):
    """What the edits of one `intervene` did so far, in the order in which they were given."""

    def __init__(self, edits: Sequence[Edit]):
        self._effects = [Effect(edit) for edit in edits]

    def __getitem__(self, index: Any) -> Any:
        return self._effects[index]

    def __len__(self) -> int:
        return len(self._effects)

    def __repr__(self) -> str:
        return "\n".join(map(repr, self._effects)) or "no edits"

    def check(self, allow_unchanged: bool = False) -> None:
        """Raise unless every edit did what it was asked to.

        Raises:
            IneffectiveEditError: one never fired at one of its places, never met one of its positions, or changed
                nothing.
        """
        for effect in self._effects:
            if not effect.fired or effect.silent:
                places = ", ".join(dict.fromkeys(effect.silent.values()))
                left = f" at {places}" if effect.fired else ""
                raise IneffectiveEditError(
                    f"{effect.edit!r} never fired{left}: no forward pass went through its place at its positions "
                    "while intervene was active. Run the model inside the with block; a text must be long enough for "
                    "the edit's positions; a compiled model may not see edits (pass the model it was compiled from)."
                )
            if effect.missed:
                raise IneffectiveEditError(
                    f"{effect.edit!r} fired, but never at positions {_ranges(sorted(effect.missed))}: no text was that "
                    "long. Leave these positions out or run a longer text."
                )
            if not effect.changed and not allow_unchanged:
                raise IneffectiveEditError(
                    f"{effect.edit!r} fired {effect.fired} times but changed nothing: the new values equal the old "
                    f"ones to rounding (largest difference {effect.largest_change:.2g}). Does it put back what was "
                    "there? If that is meant, pass allow_unchanged=True."
                )


@contextlib.contextmanager
def intervene(model: nn.Module, *edits: Edit, allow_unchanged: bool = False) -> Iterator[Report]:
    """Let edits act on every forward pass of a model inside a `with` block.

    Edits act in the order given; those of an outer `intervene` act first. Everything that reads the model meanwhile
    (`record`, `generate`, gradients, other hooks) meets the edited values. At the end exactly these edits are removed,
    whatever happened, and then the report is checked; while an exception is on its way out, it is not.

    A compiled model runs past edits: inside, its own call is refused (`record` and `generate` run the one inside it).

    A padded batch (`record` with several texts) is edited at the same positions of every text. Positions that count
    from the end are refused there, because the ends differ. In generation beyond `block_size`, positions are counted
    within the window that the model reads.

    Args:
        model: A `GPT`; also compiled or wrapped for data parallelism (then its inner module is edited).
        *edits: What to change.
        allow_unchanged: Accept an edit that fires and changes nothing (one that never fires is still an error).

    Yields:
        The report: for each edit how often it fired, at which positions, and how much it changed.

    Raises:
        UnknownNameError: the model has no such layer, head or position (before any forward pass).
        ValueError: an edit's values do not fit the model (before any forward pass).
        IneffectiveEditError: at the end, an edit never fired at one of its places, missed one of its positions, or
            changed nothing.

    Example:
        >>> from gptviz.interventions import ablate_head
        >>> from gptviz.model import GPT, GPTConfig
        >>> model = GPT(GPTConfig(block_size=8, vocab_size=5, n_layer=2, n_head=2, n_embd=8))
        >>> with intervene(model, ablate_head(1, 0, positions=2)) as report:
        ...     logits, _ = model(torch.tensor([[0, 1, 2]]))
        >>> report[0].fired, report[0].positions, report[0].changed
        (1, {2}, True)
    """
    inner = unwrapped(model)
    for edit in edits:
        if not isinstance(edit, Edit):
            raise TypeError(f"intervene takes edits such as ablate_head(1, 0), not {edit!r}.")
    report = Report(edits)
    sites = [_sites(edit, inner) for edit in edits]
    length = _TextLength()
    handles: list[RemovableHandle] = []
    try:
        handles += _refusals(model, inner)
        with length.listening(inner):
            for edit, its_sites, effect in zip(edits, sites, report, strict=True):
                handles += edit.attach(inner, effect.note)
                for site in its_sites:
                    point = inner.hook_points[site.address]
                    handles.append(point.register_forward_hook(_SiteHook(site, effect, length)))
            yield report
    finally:
        for handle in handles:
            handle.remove()
    report.check(allow_unchanged)


def _sites(edit: Edit, model: GPT) -> list[Site]:
    """Where an edit acts; of a place that the model does not have, which edit asked for it and what the model has."""
    try:
        return [check_site(site, model.config) for site in edit.sites(model)]
    except UnknownNameError as error:
        shape = model.config
        layers = f"{shape.n_layer} layer{'s' * (shape.n_layer > 1)} of {shape.n_head} head{'s' * (shape.n_head > 1)}"
        raise UnknownNameError(f"{error} {_short(edit)} does not fit: this model has {layers} and reads "
                               f"{shape.block_size} tokens.") from error


def _short(edit: Edit) -> str:
    said = repr(edit)
    return said if len(said) <= 80 else f"{said[:79]}…"


def _refusals(model: nn.Module, inner: GPT) -> Iterator[RemovableHandle]:
    """A hook on every compiled module around the model, which would answer without the edits and without a word."""
    wrapper: Any = model
    while wrapper is not inner:
        compiled = getattr(wrapper, "_orig_mod", None)
        if compiled is not None:
            yield wrapper.register_forward_pre_hook(_refuse)
        wrapper = compiled if compiled is not None else wrapper.module


def _refuse(module: nn.Module, args: Any) -> None:
    raise RuntimeError(
        "A compiled model must not be called inside intervene(), because it was compiled without the edits and would "
        "run past them. Call the model that it was compiled from, or record() or generate(), which do."
    )


class _TextLength:
    """How many tokens the running text has: after the blocks, a value may hold only the last of them."""

    def __init__(self) -> None:
        self.n_tokens = 0

    def __call__(self, resid_post: Tensor) -> None:
        self.n_tokens = resid_post.shape[1]

    @contextlib.contextmanager
    def listening(self, model: GPT) -> Iterator[None]:
        listeners = model.hook_points["resid_post", model.config.n_layer - 1].listeners
        listeners.append(self)
        try:
            yield
        finally:
            listeners.remove(self)


class _SiteHook:
    """A forward hook that returns the value with the site's part replaced. It changes no tensor that it is given."""

    def __init__(self, site: Site, effect: Effect, length: _TextLength):
        self.site, self.effect, self.length = site, effect, length
        self.by_head = "head" in AXES[site.address[0]]
        self.asked = set(site.positions) if isinstance(site.positions, tuple) else set()
        effect.missed |= self.asked
        name, layer = site.address
        effect.silent[self] = name if layer is None else f"{name}.{layer}"

    def __call__(self, point: nn.Module, args: Any, value: Tensor) -> Tensor | None:
        site = self.site
        reached = self.reached(value)
        if not reached.columns:
            return None
        every = reached.columns == list(range(value.shape[2 if self.by_head else 1]))
        columns = slice(None) if every else reached.columns
        heads = [slice(None) if site.head is None else site.head] if self.by_head else []
        index = (slice(None), *heads, columns)
        old = value[index]
        new = site.new(old, reached).to(old).expand_as(old)
        self.effect.note(old, new, reached)
        self.effect.silent.pop(self, None)
        if old.shape == value.shape and every:
            return new
        edited = value.clone()
        edited[index] = new
        return edited

    def reached(self, value: Tensor) -> Reached:
        positions = self.site.positions
        n_columns = value.shape[2 if self.by_head else 1]
        n_tokens = self.length.n_tokens if self.site.address[0] in AFTER_THE_BLOCKS else n_columns
        if len(value) > 1 and counts_from_end(positions):
            raise ValueError(
                "Positions must be counted from the start in a batch, because its texts may end at different places, "
                f"but {self.effect.edit!r} counts from the end. Give positions from 0 on, or run one text at a time."
            )
        reached = reach(positions, n_tokens - n_columns, n_columns, n_tokens)
        if isinstance(positions, tuple):
            self.effect.missed -= {positions[place] for place in reached.places}
        return reached


def _change(old: Tensor, new: Tensor) -> tuple[float, float]:
    """The largest absolute change, and the size below which it is rounding."""
    with torch.no_grad():
        differs = new != old
        if not bool(differs.any()):
            return 0.0, 0.0
        change = float((new - old)[differs].abs().max())
        both = torch.stack([old, new]).float()
        size = float(both.where(both.isfinite(), 0).square().mean().sqrt())
    return change, size * max(ROUNDING, torch.finfo(old.dtype).eps)


def _ranges(numbers: list[int]) -> str:
    """Whole numbers as a person writes them.

    Example:
        >>> _ranges([0, 1, 2, 5, 7, 8])
        '0-2, 5, 7-8'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs) or "none"
