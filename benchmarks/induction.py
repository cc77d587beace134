"""Does the event "induction head formed" come for two layers and not for one? A table for docs/induction.md.

    python -m benchmarks.induction [--seeds 5] [--steps 2800] [--layers 2 1]

Each training takes one thread and two to three quiet minutes. The thresholds are those of gptviz.analysis.events for
every run; nothing is chosen by seed. A row says the first recorded step with the event, its score, its null and its
threshold, or the largest induction score that was reached.
"""

import argparse
import time

import numpy as np

from gptviz.analysis.events import LEAST
from gptviz.runs import Run
from gptviz.tasks import InductionTask
from gptviz.training import TrainConfig, train

COLUMNS = ("layers", "seed", "event", "step", "head", "score", "null", "threshold", "composes with", "ablated",
           "accuracy", "seconds")  # fmt: skip


def config(n_layer: int, seed: int, steps: int) -> TrainConfig:
    return TrainConfig(
        task=InductionTask(n_symbols=32, n_positions=48), n_layer=n_layer, n_head=4, n_embd=64, bias=True,
        batch_size=64, max_iters=steps, learning_rate=2e-3, min_lr=2e-4, warmup_iters=100, weight_decay=0.01,
        beta2=0.98, eval_interval=400, eval_iters=4, threads=1, seed=seed,
    )  # fmt: skip


def row(run: Run, n_layer: int, seed: int, seconds: float) -> str:
    accuracy = run.metrics()["accuracy"]
    tail = f"{accuracy[np.isfinite(accuracy)][-1]:.2f} | {seconds:.0f} |"
    found = next((event for event in run.events if event["name"] == "induction_head"), None)
    if found is None:
        scores = run.head_scores()
        best = np.unravel_index(np.nanargmax(scores["induction"]), scores["induction"].shape)
        score, high = scores["induction"][best], scores["null_high/induction"][best]
        return (f"| {n_layer} | {seed} | none | {scores['step'][best[0]]} | L{best[1]}H{best[2]} | {score:.2f} | "
                f"97.5 %: {high:.2f} | {LEAST} above its null | - | - | {tail}")
    more = found.get("more", {})
    writer = "L{}H{}, K {:.2f}".format(*more["writer"], more["k"]) if more.get("writer") else "none"
    place = f"L{found['layer']}H{found['head']}"
    return (f"| {n_layer} | {seed} | formed | {found['step']} | {place} | {found['score']:.2f} | "
            f"{found['null']:.2f} | {found['threshold']:.2f} | {writer} | {more.get('ablated', '-')} | {tail}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=2800)
    parser.add_argument("--layers", type=int, nargs="+", default=[2, 1])
    options = parser.parse_args()
    print(f"| {' | '.join(COLUMNS)} |\n{'|---' * len(COLUMNS)}|", flush=True)
    for n_layer in options.layers:
        for seed in range(options.seeds):
            start = time.process_time()
            run = train(config(n_layer, seed, options.steps), progress=False)
            print(row(run, n_layer, seed, time.process_time() - start), flush=True)
            run.close()


if __name__ == "__main__":
    main()
