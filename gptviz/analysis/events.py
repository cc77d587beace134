"""What happened while a model learned: events from a history of observations, each with its evidence. Without torch.

The detector sees one observation after the other and never looks ahead, so that what it finds while a run trains is
what it finds afterwards in the run directory.

| event | happens at the first recorded step where | null |
|---|---|---|
| previous_token_head | a head's previous_token score stands out | keys permuted within the causal row |
| induction_head | a head's induction score stands out | the same attention, text shuffled |
| attention_sink | a head's first_token score stands out | keys permuted within the causal row |
| bigram_plateau_passed | probe texts cost 0.1 nats less than with their pairs of tokens shuffled | signs flipped |
| dead_neurons | a tenth of a layer's neurons are silent on every text measured | the first recorded step |
| loss_plateau | over the last half of the steps, 64 or more, the loss did not fall | its bins permuted |
| loss_drop | within a doubling of the steps since such a plateau it fell by 5 % | the largest fall within the plateau |

To stand out is: above 97.5 % of the null, and (score - null) / (1 - null) at least 0.3, the rule and the margin of
`HeadScores.labels`. No threshold depends on the run.
"""

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from jaxtyping import Float64

LEAST = 0.3
LEAST_GAIN = 0.1  # nats
LEAST_DEAD = 0.1
FLAT = 0.02
STILL = 0.002  # a fall no larger than this is none, however certain; else half of what chance gives
SHORTEST_PLATEAU = 64  # steps: in fewer, of a learning rate that still rises, nothing has come to a halt
DROP = 0.05
FEWEST_BINS = 8
N_PERMUTED = 200

Observation = dict[str, Any]


@dataclass(frozen=True)
class Event:
    """Something that happened at a step, and why it is said.

    Attributes:
        step: The recorded step at which it was first seen; it happened after the recorded step before.
        name: Which event: see the table of `gptviz.analysis.events`.
        score: The number that crossed the threshold.
        null: What chance gives.
        threshold: What the score had to reach.
        evidence: What was measured, as a sentence.
        false_if: What would make it false.
        layer: Its layer, if it has one.
        head: Its head, if it has one.
        more: Further numbers: the head it composes with, ...
    """

    step: int
    name: str
    score: float
    null: float
    threshold: float
    evidence: str
    false_if: str
    layer: int | None = None
    head: int | None = None
    more: dict[str, Any] = field(default_factory=dict)

    def record(self) -> dict[str, Any]:
        """The event as the journal keeps it and `Run.events` gives it."""
        fields = asdict(self)
        return {"kind": "event", **{key: value for key, value in fields.items() if value not in (None, {})}}


@dataclass(frozen=True)
class _HeadRule:
    """A head's score that stands out from its null."""

    name: str
    score: str
    reads: str
    null: str
    false_if: str


RULES = (
    _HeadRule("previous_token_head", "previous_token", "attends to the token before", "keys permuted",
              "It would be false if it looked there on these texts only: score other texts with "
              "analysis.head_scores. That it looks there does not say that anything is read: ablate it."),
    _HeadRule("induction_head", "induction", "attends to the token after an earlier copy of its own", "texts shuffled",
              "It would be false if it stood out on texts whose repeats it cannot know by their tokens, or if ablating "
              "it left the loss on repeated tokens as it is."),
    _HeadRule("attention_sink", "first_token", "rests on the first token", "keys permuted",
              "It would be false if what it reads there mattered: a sink's value vector there is small, and ablating "
              "position 0 for this head changes little."),
)  # fmt: skip


class Detector:
    """Takes one observation after the other and says what is new.

    Attributes:
        found: The heads of each head event so far, as (layer, head).
    """

    def __init__(self) -> None:
        """Starts with nothing seen."""
        self.found: dict[str, set[tuple[int, int]]] = {rule.name: set() for rule in RULES}
        self._said: set[tuple[str, int]] = set()
        self._first_dead: list[int] | None = None
        self._bins: list[tuple[float, float, float]] = []  # first step, step after the last, mean loss
        self._plateau: tuple[int, np.ndarray] | None = None  # newest step that is flat, its bins
        self._on_plateau = False

    @property
    def past_bigrams(self) -> bool:
        """Whether the gain from more than the token before was found, and need not be measured again."""
        return ("bigram_plateau_passed", 0) in self._said

    def take(self, observation: Observation) -> list[Event]:
        """The events that this observation brings."""
        return [*self._heads(observation), *self._gain(observation), *self._dead(observation), *self._loss(observation)]

    def _heads(self, now: Observation) -> Iterable[Event]:
        if "heads" not in now:
            return
        for rule in RULES:
            value, null, high = (np.array(now[part][rule.score], float) for part in ("heads", "null", "null_high"))
            for layer, head in sorted(standing(now, rule.score, LEAST) - self.found[rule.name]):
                self.found[rule.name].add((layer, head))
                at = (layer, head)
                threshold = max(float(high[at]), float(null[at] + LEAST * (1 - null[at])))
                said = (f"L{layer}H{head} {rule.reads}: {value[at]:.2f} of its attention, {null[at]:.2f} by chance "
                        f"({rule.null}; 97.5 % of draws below {high[at]:.2f}).")
                composed = _composition(now, at) if rule.name == "induction_head" else {}
                if rule.name == "induction_head":
                    said += _composition_sentence(composed)
                yield Event(now["step"], rule.name, float(value[at]), float(null[at]), round(threshold, 4), said,
                            rule.false_if, layer, head, composed)

    def _gain(self, now: Observation) -> Iterable[Event]:
        gain, key = now.get("gain"), ("bigram_plateau_passed", 0)
        if gain is None or key in self._said or None in gain.values():
            return
        threshold = max(LEAST_GAIN, gain["null_high"])
        if gain["value"] > threshold:
            self._said.add(key)
            yield Event(
                now["step"], key[0], gain["value"], gain["null_high"], threshold,
                f"The loss on the probe texts is {gain['whole']:.2f} nats, and {gain['pairs']:.2f} when their pairs of "
                f"tokens are shuffled: more than the token before is used (97.5 % of the differences with signs "
                f"flipped are below {gain['null_high']:.2f}).",
                "It would be false if other texts showed no such gain: the probes are few.",
            )  # fmt: skip

    def _dead(self, now: Observation) -> Iterable[Event]:
        if "dead" not in now or not now.get("d_mlp"):
            return
        before = self._first_dead = self._first_dead or list(now["dead"])
        for layer, (count, first) in enumerate(zip(now["dead"], before, strict=True)):
            share, null = count / now["d_mlp"], first / now["d_mlp"]
            if share >= max(LEAST_DEAD, null) and share > null and ("dead_neurons", layer) not in self._said:
                self._said.add(("dead_neurons", layer))
                yield Event(
                    now["step"], "dead_neurons", round(share, 4), round(null, 4), max(LEAST_DEAD, round(null, 4)),
                    f"{count} of {now['d_mlp']} neurons of layer {layer} stay below -3 before the activation function "
                    f"at every token of the random texts; at the first recorded step it was {first}.",
                    "It would be false if they fired on texts of the kind the model learns: look for some with "
                    "analysis.top_examples.",
                    layer,
                )  # fmt: skip

    def _loss(self, now: Observation) -> Iterable[Event]:
        self._bins += [tuple(one) for one in now.get("losses", [])]
        step = now["step"]
        recent = np.array([mean for first, _, mean in self._bins if first >= step / 2])
        if len(recent) < FEWEST_BINS:
            return
        fall, noise = _fall(recent)
        halted = fall <= max(noise / 2, STILL) and step >= 2 * SHORTEST_PLATEAU
        if fall + noise < FLAT and (halted or self._on_plateau):
            if not self._on_plateau:
                yield Event(
                    step, "loss_plateau", round(fall, 4), round(noise, 4), FLAT,
                    f"From step {step // 2} to {step} the loss stayed at {recent.mean():.3f} nats: its second half is "
                    f"{_change(fall)} the first, where the same losses in any order differ by up to "
                    f"{100 * noise:.1f} % (97.5 % of orders).",
                    "It would be false if it still fell within the noise: average over more steps.",
                    more={"first": step // 2},
                )  # fmt: skip
            self._plateau, self._on_plateau = (step, recent), True
        elif self._plateau is not None:
            yield from self._drop(step, *self._plateau)

    def _drop(self, step: int, at: int, flat: Float64[np.ndarray, "bin"]) -> Iterable[Event]:
        latest = np.array([mean for first, _, mean in self._bins if first >= at][-4:])
        if step > 2 * at or not len(latest):
            self._plateau, self._on_plateau = None, False
            return
        level, null = flat.mean(), float(1 - flat.min() / flat.mean())
        score = float(1 - latest.mean() / level)
        if score > max(DROP, null):
            self._plateau, self._on_plateau = None, False
            yield Event(
                step, "loss_drop", round(score, 4), round(null, 4), max(DROP, round(null, 4)),
                f"The loss fell from its plateau of {level:.3f} nats at step {at} to {latest.mean():.3f}: by "
                f"{100 * score:.0f} %; on the plateau it was never {100 * null:.1f} % below its mean.",
                "It would be false if the data or the learning rate had changed just then.",
            )  # fmt: skip


def events_in(observations: Iterable[Observation]) -> list[Event]:
    """The events of a history of observations, in the order of their steps.

    Example:
        >>> null = {"previous_token": [[0.2]], "induction": [[0.0]], "first_token": [[0.0]]}
        >>> now = null | {"previous_token": [[0.9]]}
        >>> history = [{"step": 0, "heads": null, "null": null, "null_high": null},
        ...            {"step": 8, "heads": now, "null": null, "null_high": null}]
        >>> [(event.step, event.name, event.layer, event.head) for event in events_in(history)]
        [(8, 'previous_token_head', 0, 0)]
    """
    detector = Detector()
    return [event for observation in observations for event in detector.take(observation)]


def events_of(run: Any) -> list[Event]:
    """The events of a recorded run, found again from what it recorded.

    A run that was recorded without observations is measured now, from its weights at every recorded step (with torch).

    Args:
        run: A `Run`.

    Example:
        >>> from gptviz.runs import open_run
        >>> events_of(open_run("sorter"))  # reads 11 tokens: too few for a random text with a repeat
        []
    """
    observations = run.observations
    return events_in(observations if observations else observe_run(run))


def observe_run(run: Any) -> list[Observation]:
    """The observations of a run that holds none: measured from its weights, its losses taken from its scalars."""
    from gptviz.analysis.measures import ProgressMeasures

    probes = [probe["ids"] for probe in run.info["probes"]]
    measures, metrics, before, known = None, run.metrics(), 0, set()
    observations = []
    for step in run.steps:
        model, _ = run.load(step)
        measures = measures or ProgressMeasures(model.config, probes)
        seen = measures.observe(model, frozenset(known))
        known |= {tuple(one["head"]) for one in seen.get("composition", [])}
        rows = (metrics["step"] >= before) & (metrics["step"] < step)
        losses = loss_bins(metrics["step"][rows], metrics["loss"][rows]) if "loss" in metrics else []
        observations.append({"kind": "observation", "step": step, "losses": losses, **seen})
        before = step
    return observations


def loss_bins(steps: Any, losses: Any, most: int = 8) -> list[list[int | float]]:
    """The losses since the recorded step before as up to eight means: [first step, step after the last, mean].

    Losses that are not finite are left out.

    Example:
        >>> loss_bins([4, 5, 6, 7], [3.0, 1.0, 2.0, float("nan")], most=2)
        [[4, 6, 2.0], [6, 7, 2.0]]
    """
    steps, losses = np.asarray(steps), np.asarray(losses, float)
    finite = np.isfinite(losses)
    parts = zip(*(np.array_split(part[finite], most) for part in (steps, losses)), strict=True)
    return [[int(at[0]), int(at[-1]) + 1, round(float(values.mean()), 6)] for at, values in parts if len(at)]


def standing(observation: Observation, score: str, least: float = LEAST) -> frozenset[tuple[int, int]]:
    """The heads, as (layer, head), whose score stands out from its null: above 97.5 % of it and by at least `least`.

    The margin is the share of what the null leaves: (score - null) / (1 - null), as in `HeadScores.labels`.
    """
    if "heads" not in observation:
        return frozenset()
    value, null, high = (np.array(observation[part][score], float) for part in ("heads", "null", "null_high"))
    with np.errstate(invalid="ignore", divide="ignore"):
        out = ((value - null) / (1 - null) >= least) & (value > high)  # NaN never is
    return frozenset((int(layer), int(head)) for layer, head in np.argwhere(out))


def _composition(now: Observation, at: tuple[int, int]) -> dict[str, Any]:
    found = [one for one in now.get("composition", []) if tuple(one["head"]) == at]
    return {key: value for key, value in found[0].items() if key != "head"} if found else {}


def _composition_sentence(found: dict[str, Any]) -> str:
    if not found.get("writer"):
        return " No previous-token head stands out below it."
    layer, head = found["writer"]
    above = "above" if found["k"] > found["k_null_high"] else "not above"
    return (f" It composes with the previous-token head L{layer}H{head}: K-composition {found['k']:.2f}, {above} what "
            f"97.5 % of random matrices reach ({found['k_null_high']:.2f}); with that head ablated its score is "
            f"{found['ablated']:.2f}.")


def _change(fall: float) -> str:
    """How a mean compares with the one before: "0.3 % below"."""
    return f"{100 * abs(fall):.1f} % {'below' if fall > 0 else 'above'}"


def _fall(bins: Float64[np.ndarray, "bin"]) -> tuple[float, float]:
    """By which share the second half's mean is lower than the first's, and 97.5 % of that with the bins permuted."""
    half = len(bins) // 2
    rng = np.random.Generator(np.random.PCG64(len(bins)))
    shuffled = rng.permuted(np.tile(bins, (N_PERMUTED, 1)), axis=1)
    falls = (shuffled[:, :half].mean(1) - shuffled[:, half:].mean(1)) / bins[:half].mean()
    fall = (bins[:half].mean() - bins[half:].mean()) / bins[:half].mean()
    return float(fall), float(np.quantile(falls, 0.975))
