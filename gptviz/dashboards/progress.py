"""What a run shows over all its steps, without torch: events, scores of heads, and how its numbers are spread."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from gptviz.runs import CorruptSnapshot
from gptviz.runs.cadence import thinned
from gptviz.views import View, distributions_view, events_view, head_curves_view
from gptviz.views.head_curves import Curves

MOST_SNAPSHOTS = 48  # of which the scores are read: each is a file
OF_A_PROBE = {"entropy": "entropy", "previous": "previous_token", "first": "first_token"}  # as a snapshot names them


class Progress:
    """The views of a run that grow with it, made again only when something was recorded.

    Scores with a null were observed while it trained, on random texts. Entropy, and in a run that observed nothing the
    attention to the token before and to the first one, are those of the probe text in the snapshots.

    Args:
        run: A Run.
        probe: Which of its probe texts.
    """

    def __init__(self, run: Any, probe: int = 0) -> None:
        self.run, self.probe = run, probe
        self._seen: tuple[int, ...] = ()
        self._views: list[View] = []
        self._statistics: dict[int, dict[str, np.ndarray]] = {}  # a snapshot never changes: each is read once

    def views(self) -> list[View]:
        """The timeline of events, the curves of the heads and the distributions, as far as the run has them."""
        run = self.run
        seen = (len(run.events), len(run.observations), *run.steps[-1:])
        if seen != self._seen:
            self._views = [*self._events(), *self._head_curves(), *self._distributions()]
            self._seen = seen
        return self._views

    def _events(self) -> list[View]:
        """None for a run that was recorded without looking for them."""
        return [events_view(self.run.events)] if self.run.observations or self.run.events else []

    def _head_curves(self) -> list[View]:
        found = self.run.head_scores()
        observed = [Curves(name, found["step"], found[name], found[f"null_high/{name}"]) for name in found
                    if name != "step" and not name.startswith("null_high/")]
        names = {"entropy": OF_A_PROBE["entropy"]} if observed else OF_A_PROBE
        scores = [*observed, *self._of_the_probe(names)]
        return [head_curves_view(scores)] if scores else []

    def _of_the_probe(self, names: dict[str, str]) -> list[Curves]:
        read = [(step, known) for step in thinned(self.run.steps, MOST_SNAPSHOTS) if (known := self._read(step))]
        steps = np.array([step for step, _ in read])
        return [Curves(name, steps, np.stack([known[saved] for _, known in read]), recorded=len(self.run.steps))
                for saved, name in names.items() if read]

    def _read(self, step: int) -> dict[str, np.ndarray]:
        """The scores in a snapshot; none from one that is damaged, or where weights were recorded and no probe."""
        if step not in self._statistics:
            try:
                found = self.run.snapshot(step, self.probe).statistics
            except (CorruptSnapshot, ValueError):
                found = {}
            self._statistics[step] = {name: found[name] for name in OF_A_PROBE} if set(OF_A_PROBE) <= set(found) else {}
        return self._statistics[step]

    def _distributions(self) -> list[View]:
        found = self.run.distributions()
        steps: Sequence[Any] = found.pop("step", ())
        return [distributions_view(np.asarray(steps), found)] if found else []
