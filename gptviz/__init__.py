"""Watch a GPT think while it learns: record, edit and see every value of a small GPT at any training step.

The public names are loaded when they are first used, so that `import gptviz` takes a few milliseconds
and imports neither torch nor matplotlib nor ipywidgets.

Example:
    >>> import gptviz as gv
    >>> gv.GPTConfig(block_size=8, vocab_size=3, n_layer=1, n_head=1, n_embd=4).block_size
    8
"""

import importlib

__version__ = "0.1.0"

# Public name -> module that defines it. A name that ends its own module's name is that module (gv.analysis).
_HOME = {
    "GPT": "gptviz.model",
    "GPTConfig": "gptviz.model",
    "load": "gptviz.loading",
    "generate": "gptviz.generation",
    "generate_and_record": "gptviz.generation",
    "record": "gptviz.trace",
    "describe": "gptviz.trace",
    "Trace": "gptviz.trace",
    "intervene": "gptviz.interventions",
    "ablate_head": "gptviz.interventions",
    "ablate_mlp": "gptviz.interventions",
    "ablate_position": "gptviz.interventions",
    "scale_head": "gptviz.interventions",
    "patch": "gptviz.interventions",
    "steer": "gptviz.interventions",
    "set_pattern": "gptviz.interventions",
    "freeze_ln": "gptviz.interventions",
    "freeze_pattern": "gptviz.interventions",
    "transplant_head": "gptviz.interventions",
    "analysis": "gptviz.analysis",
    "train": "gptviz.training",
    "TrainConfig": "gptviz.training",
    "Recorder": "gptviz.training",
    "open_run": "gptviz.runs",
    "runs_table": "gptviz.runs",
    "Run": "gptviz.runs",
    "compare": "gptviz.dashboards",
    "explore": "gptviz.dashboards",
    "step_through": "gptviz.dashboards",
    "watch": "gptviz.dashboards",
    "lab": "gptviz.dashboards.lab",
    "export_html": "gptviz.export",
    "save": "gptviz.export",
}

TYPE_CHECKING = False  # what type checkers take for true; importing typing would cost more than all else here
if TYPE_CHECKING:  # the same names for editors and type checkers; a test compares the two lists
    from gptviz import analysis as analysis
    from gptviz.dashboards import compare as compare
    from gptviz.dashboards import explore as explore
    from gptviz.dashboards import step_through as step_through
    from gptviz.dashboards import watch as watch
    from gptviz.dashboards.lab import lab as lab
    from gptviz.export import export_html as export_html
    from gptviz.export import save as save
    from gptviz.generation import generate as generate
    from gptviz.generation import generate_and_record as generate_and_record
    from gptviz.interventions import ablate_head as ablate_head
    from gptviz.interventions import ablate_mlp as ablate_mlp
    from gptviz.interventions import ablate_position as ablate_position
    from gptviz.interventions import freeze_ln as freeze_ln
    from gptviz.interventions import freeze_pattern as freeze_pattern
    from gptviz.interventions import intervene as intervene
    from gptviz.interventions import patch as patch
    from gptviz.interventions import scale_head as scale_head
    from gptviz.interventions import set_pattern as set_pattern
    from gptviz.interventions import steer as steer
    from gptviz.interventions import transplant_head as transplant_head
    from gptviz.loading import load as load
    from gptviz.model import GPT as GPT
    from gptviz.model import GPTConfig as GPTConfig
    from gptviz.runs import Run as Run
    from gptviz.runs import open_run as open_run
    from gptviz.runs import runs_table as runs_table
    from gptviz.trace import Trace as Trace
    from gptviz.trace import describe as describe
    from gptviz.trace import record as record
    from gptviz.training import Recorder as Recorder
    from gptviz.training import TrainConfig as TrainConfig
    from gptviz.training import train as train


def __getattr__(name: str):
    """Import the module of a public name on first use and keep the value."""
    if name not in _HOME:
        raise AttributeError(_unknown(name))
    module = importlib.import_module(_HOME[name])
    value = module if module.__name__ == f"gptviz.{name}" else getattr(module, name)
    globals()[name] = value  # the next look-up no longer comes here
    return value


def __dir__() -> list[str]:
    return ["__version__", *sorted(_HOME)]


def _unknown(name: str) -> str:
    """The sentence for a name that does not exist, with the nearest one that does."""
    import difflib  # costs 5 ms, needed only here

    near = difflib.get_close_matches(name, _HOME, n=1, cutoff=0.5)
    hint = f" Did you mean gptviz.{near[0]}?" if near else f" Public names: {', '.join(sorted(_HOME))}."
    return f"gptviz has no name {name!r}.{hint}"
