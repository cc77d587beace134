"""Recording other trainers through their callbacks."""

import pytest
import torch

from gptviz.training import Recorder
from gptviz.training.integrations import lightning_callback, trainer_callback


def test_hugging_faces_trainer_is_recorded(tmp_path, run_dir):
    transformers = pytest.importorskip("transformers", reason="the callback is for transformers' Trainer")
    model = transformers.GPT2LMHeadModel(transformers.GPT2Config(vocab_size=8, n_positions=16, n_embd=16, n_layer=1,
                                                                 n_head=2))
    data = [{"input_ids": torch.arange(8) % 8, "labels": torch.arange(8) % 8} for _ in range(16)]
    recorder = Recorder(model, None, [[0, 1, 2, 3]], run_dir, steps=[0, 2, 4])
    arguments = transformers.TrainingArguments(
        output_dir=str(tmp_path / "out"), max_steps=4, per_device_train_batch_size=2, logging_steps=1, report_to=[],
        save_strategy="no", disable_tqdm=True, use_cpu=True, dataloader_pin_memory=False, learning_rate=1e-2,
    )  # fmt: skip
    trainer = transformers.Trainer(model=model, args=arguments, train_dataset=data,
                                   callbacks=[trainer_callback(recorder)])
    trainer.train()
    run = recorder.run
    assert (run.status, run.steps) == ("finished", [0, 2, 4])
    assert run.metrics()["loss"].shape == run.metrics()["lr"].shape == (4,)
    assert not torch.equal(*(torch.from_numpy(run.weights(step)["transformer.wte.weight"]) for step in (0, 4)))
    after = torch.from_numpy(run.weights(4)["transformer.wte.weight"])
    assert torch.equal(after, model.transformer.wte.weight)


def test_lightning_is_recorded(run_dir):
    lightning = pytest.importorskip("lightning.pytorch", reason="the callback is for Lightning")
    from gptviz.model import GPT, GPTConfig

    class Module(lightning.LightningModule):
        def __init__(self):
            super().__init__()
            self.gpt = GPT(GPTConfig(16, 8, 1, 2, 8))

        def training_step(self, batch, index):
            return self.gpt(batch[:, :-1], batch[:, 1:])[1]

        def configure_optimizers(self):
            return torch.optim.AdamW(self.parameters())

    module = Module()
    recorder = Recorder(module.gpt, None, [[0, 1, 2]], run_dir, steps=[0, 2, 4])
    trainer = lightning.Trainer(max_steps=4, logger=False, enable_checkpointing=False, enable_progress_bar=False,
                                enable_model_summary=False, accelerator="cpu", callbacks=[lightning_callback(recorder)])
    trainer.fit(module, torch.utils.data.DataLoader(torch.randint(8, (16, 9)), batch_size=2))
    assert recorder.run.steps == [0, 2, 4]
    assert recorder.run.metrics()["loss"].shape == (4,)
