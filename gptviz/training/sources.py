"""Where a run's data comes from: a corpus or a task, opened by name or again from run.json."""

from typing import Any

from gptviz.training.config import TrainConfig
from gptviz.training.loop import Source


def open_source(config: TrainConfig) -> Source:
    """The data that a configuration names.

    Raises:
        ValueError: The corpus or task is unknown or empty.
    """
    if config.task is not None:
        from gptviz.tasks import make_task

        return make_task(config.task)
    from gptviz.corpora import open_corpus

    return open_corpus(config.corpus, tokenizer=config.tokenizer)


def reopen_source(spec: dict[str, Any]) -> Source:
    """The same data again, from what `spec()` said of it."""
    from gptviz.corpora import source_from_spec

    return source_from_spec(spec)
