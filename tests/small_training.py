"""A training of a second, for the tests of training in the foreground and in the background."""

from gptviz.training import TrainConfig

TEXT = "the quick brown fox jumps over the lazy dog; pack my box with five dozen jugs. " * 30


def small(data, **changes) -> TrainConfig:
    """Thirty steps of a tiny model, with dropout; any field may be another."""
    fields = dict(corpus=data, n_layer=2, n_head=2, n_embd=16, block_size=16, batch_size=4, max_iters=30,
                  warmup_iters=5, eval_interval=10, eval_iters=2, threads=1, dropout=0.1)
    return TrainConfig(**fields | changes)
