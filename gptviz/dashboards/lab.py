"""A training without a line of code: a form, an estimate of what it will take, and the live board beneath."""

import time
from typing import Any

import ipywidgets

from gptviz.corpora import DataSource
from gptviz.dashboards.watch import watch
from gptviz.model import GPT
from gptviz.training import TrainConfig, train
from gptviz.training.background import LiveRun
from gptviz.training.budget import plan_recording
from gptviz.training.threads import seconds_per_step

WORKSHOP_MEGABYTES = 64
SIZES = {  # layers, heads, width
    "1 layer, 2 heads, width 32": (1, 2, 32),
    "2 layers, 4 heads, width 64": (2, 4, 64),
    "3 layers, 3 heads, width 48": (3, 3, 48),
    "4 layers, 4 heads, width 128": (4, 4, 128),
    "6 layers, 6 heads, width 192": (6, 6, 192),
}
SUBJECTS: dict[str, dict[str, Any]] = {
    "task: sort six letters": {"task": "sort"},
    "task: induction": {"task": "induction"},
    "task: addition": {"task": "addition"},
    "text: Python's documentation": {"corpus": "python-docs"},
}


class Lab(ipywidgets.VBox):
    """The form of `lab()`. Its fields are plain ipywidgets, so that they can also be set from Python.

    Attributes:
        run: The run that was started last, or None.
        board: Its live board, or None.
    """

    def __init__(self) -> None:
        self.run: LiveRun | None = None
        self.board: Any = None
        self._sources: dict[str, DataSource] = {}
        wide = {"description_width": "110px"}
        self.subject = ipywidgets.Dropdown(options=list(SUBJECTS), description="What to learn", style=wide)
        self.path = ipywidgets.Text(placeholder="or a text file of your own", description="File", style=wide)
        self.size = ipywidgets.Dropdown(options=list(SIZES), value=list(SIZES)[2], description="Model", style=wide)
        self.steps = ipywidgets.BoundedIntText(600, min=1, max=1_000_000, description="Steps", style=wide)
        self.learning_rate = ipywidgets.FloatText(1e-3, description="Learning rate", style=wide, step=1e-4)
        self.seed = ipywidgets.BoundedIntText(1337, min=0, max=2**31 - 1, description="Seed", style=wide)
        self.estimate = ipywidgets.Button(description="Estimate", tooltip="time one step and count the bytes")
        self.start = ipywidgets.Button(description="Start", button_style="primary", icon="play")
        self.words = ipywidgets.Label("Start trains in the background; the board appears beneath.")
        self.place = ipywidgets.VBox()
        self.estimate.on_click(lambda _: self._told(self._estimate))
        self.start.on_click(lambda _: self._told(self._start))
        fields = [self.subject, self.path, self.size, self.steps, self.learning_rate, self.seed]
        grid = ipywidgets.GridBox(fields, layout={"grid_template_columns": "repeat(2, minmax(300px, 420px))"})
        super().__init__([grid, ipywidgets.HBox([self.start, self.estimate, self.words]), self.place])

    @property
    def config(self) -> TrainConfig:
        """What the form says.

        Raises:
            ValueError: A field is outside its range.
        """
        n_layer, n_head, n_embd = SIZES[str(self.size.value)]
        path, rate = str(self.path.value).strip(), self.learning_rate.value
        learns: dict[str, Any] = {"corpus": path} if path else SUBJECTS[str(self.subject.value)]
        return TrainConfig(**learns, n_layer=n_layer, n_head=n_head, n_embd=n_embd, max_iters=self.steps.value,
                           learning_rate=rate, min_lr=0.1 * rate, seed=self.seed.value,
                           eval_interval=max(1, min(250, self.steps.value // 10)), max_megabytes=WORKSHOP_MEGABYTES)

    def _told(self, act: Any) -> None:
        """A mistake of the reader's becomes a sentence in the form."""
        try:
            self.words.value = act()
        except (ValueError, OSError) as error:
            self.words.value = f"✕ {error}"

    def _estimate(self) -> str:
        from gptviz.training.sources import open_source

        if self.run is not None and self.run.alive:
            return "✕ A training is under way; estimate when it has ended."
        config = self.config
        source = open_source(config, progress=False)
        block_size = config.block_size or getattr(source, "n_positions", 64)
        model = GPT(config.model_config(source.vocab_size, block_size))
        seconds = seconds_per_step(model, source, config) * config.max_iters
        nbytes = plan_recording(config, sum(p.numel() for p in model.parameters()), block_size).nbytes
        took = f"{seconds:.0f} s" if seconds < 120 else f"{seconds / 60:.0f} min"
        return f"About {took} on this machine, and {nbytes / 1e6:.0f} of {WORKSHOP_MEGABYTES} MB on the disk."

    def _start(self) -> str:
        if self.run is not None and self.run.alive:
            return "✕ A training is under way. Stop it on the board, then start another."
        config, begun = self.config, time.monotonic()
        self.words.value = "Opening the data …"
        run = train(config, background=True, progress=False)
        if not isinstance(run, LiveRun):
            raise TypeError(f"A training in the background is a LiveRun; it is {type(run).__name__}.")
        self.run, self.board = run, watch(run)
        self.place.children = (self.board,)
        return f"Started in {time.monotonic() - begun:.1f} s. In Python it is lab.run."


def lab() -> Lab:
    """A form for people who do not write the cell themselves: what to learn, how large, how long, and Start.

    A run that is started here is kept in memory, within 64 MB; `lab.run` is the run and `lab.board` its board.

    Example:
        >>> form = lab()
        >>> form.steps.value = 5
        >>> form.config.max_iters
        5
    """
    return Lab()
