"""Where a run's data comes from: a corpus or a task, by name or as an object."""

from gptviz.corpora import DataSource, load_text_data
from gptviz.tasks import load_task
from gptviz.training.config import TrainConfig


def open_source(config: TrainConfig, *, progress: bool) -> DataSource:
    """The data that a configuration names.

    Raises:
        ValueError: The corpus or task is unknown or empty.
    """
    if isinstance(config.task, str):
        return load_task(config.task)
    if isinstance(config.corpus, str):
        return load_text_data(config.corpus, config.tokenizer, progress=progress)
    return config.task or config.corpus  # type: ignore[return-value]  (TrainConfig has exactly one of the two)
