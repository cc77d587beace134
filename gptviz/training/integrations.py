"""Callbacks for other trainers: a `Recorder` that their loop drives. Both libraries are optional."""

import math
from typing import Any

from gptviz.training.recorder import Recorder

_KEPT = {"loss": "loss", "learning_rate": "lr", "grad_norm": "grad_norm", "eval_loss": "val_loss"}


def trainer_callback(recorder: Recorder) -> Any:
    """A callback for Hugging Face's `Trainer`: `Trainer(..., callbacks=[trainer_callback(recorder)])`.

    Weights and probes are recorded when they are due, before the first step and after each; Trainer's own logs
    (`logging_steps=1` for every step) bring the scalars. Only the process with rank 0 records.

    Args:
        recorder: A `Recorder` of the model that the Trainer trains.

    Raises:
        ImportError: transformers is not installed.
    """
    from transformers import TrainerCallback

    class Callback(TrainerCallback):
        """Drives the recorder; closes it when training ends."""

        def on_train_begin(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self._step(state)

        def on_step_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            self._step(state)

        def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **rest: Any) -> None:
            logs = logs or {}
            known = {ours: float(logs[theirs]) for theirs, ours in _KEPT.items() if theirs in logs}
            if known and state.is_world_process_zero:
                recorder.log(state.global_step, **known)

        def on_train_end(self, args: Any, state: Any, control: Any, **rest: Any) -> None:
            if state.is_world_process_zero:
                recorder.close()

        def _step(self, state: Any) -> None:
            if state.is_world_process_zero and recorder.due(state.global_step):
                recorder.capture(state.global_step)

    return Callback()


def lightning_callback(recorder: Recorder) -> Any:
    """A callback for Lightning: `Trainer(..., callbacks=[lightning_callback(recorder)])`.

    Weights and probes are recorded when they are due, before the first optimizer step and after each; the loss is what
    `training_step` returned for the batch. Only the process with rank 0 records.

    Args:
        recorder: A `Recorder` of the GPT inside the LightningModule.

    Raises:
        ImportError: Neither lightning nor pytorch_lightning is installed.
    """
    try:
        from lightning.pytorch import Callback as Base  # pyright: ignore[reportMissingImports]
    except ImportError:
        from pytorch_lightning import Callback as Base  # pyright: ignore[reportMissingImports]

    class Callback(Base):
        """Drives the recorder; closes it when training ends."""

        seen = -1

        def on_train_batch_start(self, trainer: Any, module: Any, *rest: Any) -> None:
            if trainer.is_global_zero and trainer.global_step > self.seen:
                self.seen = trainer.global_step
                if recorder.due(self.seen):
                    recorder.capture(self.seen)

        def on_train_batch_end(self, trainer: Any, module: Any, outputs: Any, *rest: Any) -> None:
            loss = outputs.get("loss") if isinstance(outputs, dict) else outputs
            value = float(loss) if loss is not None else math.nan
            if trainer.is_global_zero and loss is not None:
                recorder.log(self.seen, loss=value)

        def on_train_end(self, trainer: Any, module: Any) -> None:
            if trainer.is_global_zero:
                if recorder.due(trainer.global_step) and trainer.global_step > self.seen:
                    recorder.capture(trainer.global_step)
                recorder.close()

    return Callback()
