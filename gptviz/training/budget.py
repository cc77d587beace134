"""What recording a run will take on the disk, known before its first step, and which steps fit into a budget."""

from collections.abc import Sequence
from dataclasses import dataclass

from gptviz.runs import resume_points, schedule
from gptviz.runs.cadence import kept_resume_points, thinned
from gptviz.training.config import TrainConfig

FLOAT = 4  # bytes
MOST_STATES = 12  # optimizer states that a run keeps
FILE = 3000  # bytes of names, shapes and journal lines at each step
ROW = 110  # bytes of scalars for each step
TOP = 80  # bytes of the likeliest next tokens at each position


@dataclass(frozen=True)
class Plan:
    """Which steps of a run are recorded.

    Attributes:
        steps: Steps whose weights and probes are kept.
        resume_steps: Those from which training can go on; some are dropped later.
        nbytes: Bytes of the finished run directory, about.
    """

    steps: tuple[int, ...]
    resume_steps: frozenset[int]
    nbytes: int


def plan_recording(config: TrainConfig, n_parameters: int, block_size: int, n_probes: int = 2) -> Plan:
    """The recorded steps of `config`, thinned evenly where all of them would pass its budget (`max_megabytes`).

    Steps that were asked for (`record_steps`) are never thinned.

    Example:
        >>> wide = plan_recording(TrainConfig(task="sort"), 800_000, 64)
        >>> narrow = plan_recording(TrainConfig(task="sort", max_megabytes=64), 800_000, 64)
        >>> len(wide.steps), len(narrow.steps), narrow.nbytes < 64e6
        (86, 17, True)
    """
    def plan(steps: Sequence[int], states: int) -> Plan:
        resumable = sorted(resume_points(steps, config.max_iters))
        if states < MOST_STATES:
            resumable = thinned(resumable, max(1, states - 1))
        kept = kept_resume_points({*resumable, config.max_iters}, config.max_iters) - {0}  # at 0 there is no state yet
        probe = _probe_bytes(config, block_size)
        step = FLOAT * n_parameters + (n_probes * probe + FILE) * bool(n_probes)
        nbytes = len({*steps, config.max_iters}) * step + len(kept) * 2 * FLOAT * n_parameters + config.max_iters * ROW
        return Plan(tuple(steps), frozenset(resumable), nbytes)

    if not config.record or config.record_steps is not None:
        return plan(sorted({*(config.record_steps or ())}) if config.record else (), MOST_STATES)
    every, states = schedule(config.max_iters), MOST_STATES
    count, found = len(every), plan(every, states)
    while found.nbytes > config.max_megabytes * 1e6 and count > 2:
        states, count = (states - 1, count) if states > 2 else (states, count - 1)
        found = plan(thinned(every, count), states)
    return found


def _probe_bytes(config: TrainConfig, block_size: int) -> int:
    """What a snapshot keeps of a probe text of full length: attention as bytes, and floats at each position."""
    heads = config.n_layer * config.n_head
    return heads * block_size * (block_size + 1) // 2 + block_size * (TOP + FLOAT * (2 + 3 * config.n_layer))
