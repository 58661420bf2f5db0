"""Sub-images cut from datasets: scenes are held back whole, and a resumed run goes on with the order it would have had."""

import lightning as L
import pytest
import torch

from stemzoo.io.datasets import Dataset
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.subimages import SubImageData


@pytest.fixture
def encoder_config(dataset, dimmer):
    return EncoderConfig(
        datasets=(str(dataset), str(dimmer)), window=4.0, window_px=12, epochs=3, batch=64, validation_fraction=0.2, memory_mb=8
    )


class Spy(L.LightningModule):
    """Learns nothing and remembers the numbers of its sub-images."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = []

    def training_step(self, batch, index):
        self.seen.append(batch.number.tolist())
        return self.weight.sum()

    def validation_step(self, batch, index):
        """Nothing."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


def _fit(config, folder, epochs, resume=None):
    spy = Spy()
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(spy, datamodule=SubImageData.from_files(config), ckpt_path=resume, weights_only=False)
    trainer.save_checkpoint(folder / "last.ckpt")
    return spy.seen


def test_scenes_are_held_back_whole(encoder_config, dataset, dimmer):
    data = SubImageData.from_files(encoder_config)
    trained, held = ({part.scene for part in parts} for parts in (data.train_parts, data.val_parts))
    assert not trained & held
    files = [Dataset(path) for path in (dataset, dimmer)]
    assert trained | held == {file.scene(k) for file in files for k in range(len(file))}
    assert len(data.val_parts) == 2 * len(held)  # each crystal at both doses


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*", "ignore:.*number of training batches.*")
def test_a_resumed_run_goes_on_with_the_order_it_would_have_had(encoder_config, tmp_path):
    whole = _fit(encoder_config, tmp_path / "whole", 3)
    per_epoch = len(whole) // 3
    assert whole[:per_epoch] != whole[per_epoch : 2 * per_epoch]
    _fit(encoder_config, tmp_path / "part", 1)
    assert _fit(encoder_config, tmp_path / "part", 3, tmp_path / "part" / "last.ckpt") == whole[per_epoch:]
