"""Does the event "induction head formed" come for two layers and not for one? The table of docs/induction.md.

    python -m benchmarks.induction [--seeds 5] [--layers 2 1] [--steps 600] [--rows FILE] [--at-most N]

Each training takes one thread and less than a minute. With --rows, a row that stands in FILE is not trained again, and
--at-most ends the call after N trainings: call it again to go on. Both depths are trained exactly alike, and the
thresholds are those of gptviz.analysis.events for every run; nothing is chosen by seed.
"""

import argparse
import json
import time
from itertools import islice, product
from pathlib import Path
from typing import Any

import numpy as np

from gptviz.analysis import head_scores
from gptviz.analysis.events import events_in, observe_run
from gptviz.analysis.measures import ProgressMeasures
from gptviz.runs import Run
from gptviz.training import TrainConfig, train

EVERY = 20  # steps from one record to the next: how exactly an event is dated
COLUMNS = ("layers", "seed", "event at step", "head", "score", "null", "threshold", "at the end: head", "score",
           "on 16 other texts (null)", "composes with (its score, its event)", "K (97.5 % of random)",
           "score with that one ablated", "accuracy", "seconds")  # fmt: skip

Row = dict[str, Any]


def config(n_layer: int, seed: int, steps: int) -> TrainConfig:
    return TrainConfig(
        task="induction", n_layer=n_layer, n_head=2, n_embd=64, batch_size=64, max_iters=steps, learning_rate=3e-3,
        min_lr=3e-4, threads=1, seed=seed, record_steps=range(0, steps + 1, EVERY),
    )  # fmt: skip


def trained(n_layer: int, seed: int, steps: int) -> Row:
    """Trains one model and takes down what its run says: the event, and the heads as they are at the end."""
    start = time.process_time()
    run = train(config(n_layer, seed, steps), progress=False)
    seconds = round(time.process_time() - start, 1)
    accuracy = run.metrics()["accuracy"]
    event = first(run.events, "induction_head")
    row = {"layers": n_layer, "seed": seed, "steps": steps, "seconds": seconds, "event": event,
           "accuracy": round(float(accuracy[np.isfinite(accuracy)][-1]), 3), **at_the_end(run)}  # fmt: skip
    again = first([found.record() for found in events_in(observe_run(run))], "induction_head")
    assert (again or {}).get("step") == (event or {}).get("step"), "The event is not found again from the weights."
    run.close()
    return row


def first(events: list[Row], name: str, head: tuple[int, ...] | None = None) -> Row | None:
    """The first event of this name, of this (layer, head) if one is given."""
    found = (event for event in events if event["name"] == name)
    return next((event for event in found if head in (None, (event.get("layer"), event.get("head")))), None)


def at_the_end(run: Run) -> Row:
    """The head with the largest induction score on the texts of the events, its composition, and other texts."""
    model, _ = run.load()
    seen = ProgressMeasures(model.config).observe(model)
    heads = np.array(seen["heads"]["induction"], float)
    best = tuple(int(place) for place in np.unravel_index(heads.argmax(), heads.shape))
    composed = next((one for one in seen.get("composition", []) if tuple(one["head"]) == best), {})
    if writer := composed.get("writer"):
        composed["writer_score"] = seen["heads"]["previous_token"][writer[0]][writer[1]]
        composed["writer_step"] = (first(run.events, "previous_token_head", tuple(writer)) or {}).get("step")
    other = head_scores(model, n_texts=16, seed=1)["induction"]
    largest = float(run.head_scores()["induction"].max())
    return {"head": best, "score": float(heads[best]), "composed": composed, "largest": largest,
            "other": round(float(other.value[best]), 4), "other_null": round(float(other.null[best]), 4)}  # fmt: skip


def line(row: Row) -> str:
    """A row of the table."""
    event, composed = row["event"], row["composed"]
    if event:
        at = [event["step"], label(event["layer"], event["head"]),
              *(f"{event[key]:.2f}" for key in ("score", "null", "threshold"))]  # fmt: skip
    else:
        at = ["none", "-", f"at most {row['largest']:.2f}", "-", "-"]
    end = [label(*row["head"]), f"{row['score']:.2f}", f"{row['other']:.2f} ({row['other_null']:.2f})"]
    if composed.get("writer"):
        end += [f"{label(*composed['writer'])} ({composed['writer_score']:.2f}, step {composed['writer_step']})",
                f"{composed['k']:.2f} ({composed['k_null_high']:.2f})", f"{composed['ablated']:.2f}"]  # fmt: skip
    else:
        end += ["-", "-", "-"]
    cells = [row["layers"], row["seed"], *at, *end, f"{row['accuracy']:.2f}", f"{row['seconds']:.0f}"]
    return f"| {' | '.join(map(str, cells))} |"


def label(layer: int, head: int) -> str:
    return f"L{layer}H{head}"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 1])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--rows", type=Path, help="file of rows, one JSON object a line; made if it is not there")
    parser.add_argument("--at-most", type=int, help="trainings in this call")
    options = parser.parse_args()
    lines = options.rows.read_text().splitlines() if options.rows and options.rows.exists() else []
    rows = {(row["layers"], row["seed"], row["steps"]): row for row in map(json.loads, lines)}
    asked = [(*which, options.steps) for which in product(options.layers, range(options.seeds))]
    for which in islice((one for one in asked if one not in rows), options.at_most):
        rows[which] = trained(*which)
        if options.rows:
            with options.rows.open("a") as file:
                file.write(json.dumps(rows[which]) + "\n")
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|")
    print("\n".join(line(rows[which]) for which in asked if which in rows))


if __name__ == "__main__":
    main()
