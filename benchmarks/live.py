"""What a live board costs the training, and how soon the training does what a button asks.

    python -m benchmarks.live [--steps 200] [--rounds 3] [--clicks 20]

The default model on python-docs, one thread. The board's other end acknowledges each message and draws nothing, so that
no browser competes for the cores (`benchmarks.live_lab` has one that does). Contestants take turns; ratios are medians
over rounds of quotients of the same round. Losses are compared bit for bit.
"""

import argparse
import statistics
import threading
import time
from typing import Any

from benchmarks.training import plain_loop
from gptviz.corpora import load_text_data
from gptviz.dashboards import watch
from gptviz.training import TrainConfig, train


def acknowledging(board: Any, sent: list[tuple[float, dict, int]]) -> None:
    """Makes the board's line end in a reader that says at once that all is painted."""

    def take(content: dict, buffers: list[bytes] | None = None) -> None:
        sent.append((time.perf_counter(), content, sum(map(len, buffers or []))))
        if "push" in content:
            threading.Timer(0.02, board._received, (board, {"ack": content["push"]}, [])).start()

    board.send = take


class Delays:
    """What recording adds to each step of a training in the background, and how long each step takes."""

    def __init__(self) -> None:
        self.run: Any = None
        self.recording: list[float] = []  # seconds, one entry a step
        self.steps: list[float] = []
        self._before = (0.0, 0.0)

    def on_step(self, _step: int, _loss: float) -> None:
        trainer = self.run and self.run._trainer
        if trainer is None:
            return
        now = (time.perf_counter(), trainer.clock.seconds["recording"])
        if self._before[0]:
            self.steps.append(now[0] - self._before[0])
            self.recording.append(now[1] - self._before[1])
        self._before = now

    def say(self) -> None:
        """A histogram of each, in milliseconds."""
        for name, values in (("recording", self.recording), ("whole step", self.steps)):
            edges = (1, 2, 5, 10, 20, 50, 100, 200)
            counts = [sum(low <= 1e3 * one < high for one in values)
                      for low, high in zip((0, *edges), (*edges, float("inf")), strict=True)]
            words = "  ".join(f"<{edge}: {count}" for edge, count in zip((*edges, "∞"), counts, strict=True) if count)
            print(f"  {name:11} of a step, ms  {words}   longest {1e3 * max(values):.0f}")


def watched(config: TrainConfig, delays: Delays | None = None) -> tuple[float, bytes, list[tuple[float, dict, int]]]:
    """Tokens per second of a training with a live board, its losses, and what the board sent."""
    sent: list[tuple[float, dict, int]] = []
    run = train(config, background=True, on_step=delays.on_step if delays else None)
    if delays:
        delays.run = run
    acknowledging(watch(run), sent)
    run.wait()
    speed, losses = run.summary()["tokens_per_second"], run.metrics()["loss"].tobytes()
    run.close()
    return speed, losses, sent


def clicks(config: TrainConfig, count: int) -> tuple[list[float], list[float]]:
    """Seconds until the training has done what a button asks, and until the board has sent its new state."""
    run, sent = train(config, background=True), []
    board = watch(run)
    acknowledging(board, sent)
    while run.now.get("step", 0) < 5:
        time.sleep(0.01)
    handled, answered = [], []
    for i in range(count):
        wanted, before, start = "running" if i % 2 else "paused", len(sent), time.perf_counter()
        click = threading.Thread(target=board._received, args=(board, {"ask": "act", "name": "pause"}, []))
        click.start()
        while run.status != wanted:
            time.sleep(0.0005)
        handled.append(time.perf_counter() - start)
        click.join()
        answered.append(next(at for at, content, _ in sent[before:] if "acted" in content) - start)
        time.sleep(0.3)
    run.close()
    return handled, answered


def p95(values: list[float]) -> float:
    return sorted(values)[max(0, round(0.95 * len(values)) - 1)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clicks", type=int, default=20)
    args = parser.parse_args()
    data = load_text_data("python-docs", "char", progress=False)
    fields: dict[str, Any] = dict(corpus=data, max_iters=args.steps, threads=1, eval_interval=args.steps)
    speeds: dict[str, list[float]] = {"plain loop": [], "not watched": [], "watched": []}
    same, messages, delays = True, [], Delays()
    for _ in range(args.rounds):
        speeds["plain loop"].append(plain_loop(data, TrainConfig(**fields)))
        calm = train(TrainConfig(**fields), progress=False)
        speeds["not watched"].append(calm.summary()["tokens_per_second"])
        delays = Delays()
        speed, losses, sent = watched(TrainConfig(**fields), delays)
        speeds["watched"].append(speed)
        messages.append(sent)
        same = same and losses == calm.metrics()["loss"].tobytes()
        calm.close()
    for name, values in speeds.items():
        print(f"  {name:12} {statistics.median(values):10,.0f} tokens/s")
    for a, b in (("watched", "plain loop"), ("watched", "not watched")):
        quotients = [x / y for x, y in zip(speeds[a], speeds[b], strict=True)]
        print(f"  {a} / {b:22} {statistics.median(quotients):.3f}")
    sent = messages[-1]
    print(f"  losses bit-identical                {same}")
    print(f"  messages per second                 {len(sent) / max(1e-9, sent[-1][0] - sent[0][0]):.1f}")
    print(f"  largest message                     {max(size for *_, size in sent) / 1e3:.0f} kB")
    delays.say()
    handled, answered = clicks(TrainConfig(**fields | {"max_iters": 10**6, "eval_interval": 10**6}), args.clicks)
    for name, values in (("click to handled", handled), ("click to new state sent", answered)):
        print(f"  {name:24} median, p95  {1e3 * statistics.median(values):.0f}, {1e3 * p95(values):.0f} ms")


if __name__ == "__main__":
    main()
