"""A run directory: what training leaves behind, and how any step of it is opened again.

    RUN/
      run.json              written once: format, model, tokenizer, probes, data, seed, versions
      journal.jsonl         the only commit point: one checksummed line per committed file
      metrics/000000.jsonl  scalars of every step, checksummed lines
      ckpt/0000000120.safetensors   weights; .opt.safetensors and .json beside it: optimizer, random states, position
      snap/0000000120.safetensors   what the probe texts looked like inside the model
      LOCK STOP             who writes; a request to stop

Readers trust only what the journal lists, take no lock and need no torch. The writer's order is: temporary file,
write, fsync, rename, fsync of the folder, journal line; so a crash at any moment leaves a run that can be read.

Optimizer states are twice the size of the weights and are kept at up to twelve steps: the newest two, and the first
of every tenth of the run. Weights are kept at every recorded step.
"""

from gptviz.runs.cadence import resume_points, schedule
from gptviz.runs.faults import CorruptSnapshot, NotARun, RunLocked
from gptviz.runs.follower import Follower, Standing
from gptviz.runs.overview import runs_table, write_scalars
from gptviz.runs.reader import SCHEMA_VERSION, STOP, Problem, Run, Snapshot, open_run
from gptviz.runs.writer import RunWriter

__all__ = [
    "SCHEMA_VERSION",
    "STOP",
    "CorruptSnapshot",
    "Follower",
    "NotARun",
    "Problem",
    "Run",
    "RunLocked",
    "RunWriter",
    "Snapshot",
    "Standing",
    "open_run",
    "resume_points",
    "runs_table",
    "schedule",
    "write_scalars",
]
