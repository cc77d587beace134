"""Training: `train(TrainConfig(...))` gives a recorded `Run`; `Recorder` records any other loop.

On a CPU with a fixed number of threads a run is reproducible to the last bit: recorded or not, in one go or resumed.
"""

from gptviz.training.config import TrainConfig
from gptviz.training.optimization import learning_rate, make_optimizer
from gptviz.training.recorder import Recorder
from gptviz.training.start import resume, train

__all__ = ["Recorder", "TrainConfig", "learning_rate", "make_optimizer", "resume", "train"]
