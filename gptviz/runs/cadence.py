"""When a run is recorded, which of its resume points are kept, and fewer of its steps where all are too many."""

from collections.abc import Iterable, Sequence

POWERS = (0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512)


def schedule(max_iters: int) -> list[int]:
    """The steps whose weights a run of `max_iters` steps keeps.

    Dense early, where a model changes fastest (0, 1, 2, 4 ... 512), then every hundredth of the run, and always
    the last step. Step s means "after s updates".

    Args:
        max_iters: Length of the run in steps, at least 0.

    Returns:
        Ascending steps, the first 0 and the last `max_iters`.

    Raises:
        ValueError: If `max_iters` is negative.

    Example:
        >>> schedule(1000)[:12]
        [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 520]
        >>> len(schedule(2000))
        86
    """
    if max_iters < 0:
        raise ValueError(f"max_iters must be at least 0; {max_iters} was given.")
    hundredth = max(1, max_iters // 100)
    early = [step for step in POWERS if step <= max_iters]
    late = [step for step in range(0, max_iters + 1, hundredth) if step > POWERS[-1]]
    return sorted({*early, *late, max_iters})


def resume_points(steps: Iterable[int], max_iters: int) -> set[int]:
    """Those of the recorded `steps` that also get the optimizer's state: at least a fiftieth of the run apart.

    With the default schedule a killed run loses so much at most. The state is twice the size of the weights: writing it
    slows the steps beside it more than all else that is recorded.

    Example:
        >>> sorted(resume_points([0, 1, 2, 4, 8, 16], 250))
        [0, 8, 16]
    """
    chosen: list[int] = []
    for step in sorted(steps):
        if not chosen or step - chosen[-1] >= max_iters / 50:
            chosen.append(step)
    return set(chosen)


def kept_resume_points(steps: Iterable[int], max_iters: int) -> set[int]:
    """Those of the `steps` with an optimizer state that keep it: the newest two and the first in each tenth of the run.

    The optimizer's state is twice the size of the weights. The newest lets a killed run go on, the one before it
    covers damage to the newest, and one in each tenth lets a run be branched from ten places.

    Example:
        >>> sorted(kept_resume_points(range(0, 1001, 20), 1000))
        [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 980, 1000]
    """
    ordered = sorted(steps)
    tenth = max(1, max_iters / 10)
    first_of_tenth = {int(step // tenth): step for step in reversed(ordered)}
    return {*first_of_tenth.values(), *ordered[-2:]}


def thinned(steps: Sequence[int], count: int) -> list[int]:
    """At most `count` of the steps, evenly in their order, the last among them and, if there are two, the first.

    Example:
        >>> thinned([0, 1, 2, 4, 8], 3), thinned([0, 1, 2], 1)
        ([0, 2, 8], [2])
    """
    if count >= len(steps):
        return list(steps)
    last = len(steps) - 1
    return [steps[round(i * last / (count - 1))] for i in range(count)] if count > 1 else [steps[-1]]


def thinned_words(shown: Sequence[int], recorded: int) -> str:
    """How a view says that it draws some of the recorded steps; "" where it draws all.

    Example:
        >>> thinned_words([0, 10, 2000], 1086), thinned_words([0, 10], 2)
        ('3 of 1\u2009086 recorded steps, evenly in their order from 0 to 2\u2009000', '')
    """
    if len(shown) >= recorded:
        return ""
    words = f"{len(shown):,} of {recorded:,} recorded steps"
    words += f"; evenly in their order from {shown[0]:,} to {shown[-1]:,}" if len(shown) > 1 else ""
    return words.replace(",", "\u2009").replace(";", ",")
