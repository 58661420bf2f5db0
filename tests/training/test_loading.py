"""Under Lightning's Trainer a run sees the same patches whatever the number of workers, others in every epoch, through one handle a worker.

The trap: workers that draw from a global generator repeat each other, and repeat themselves every epoch where they are seeded anew or where
they persist and are not. A patch here hangs on its number alone, and the sampler counts on from epoch to epoch.
"""

import os

import lightning as L
import pytest
import torch

from stemzoo.training.patches import PatchData, Patches

EPOCHS = 3


class Spy(L.LightningModule):
    """Learns nothing and remembers every patch by its sum."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen = [[] for _ in range(EPOCHS)]

    def training_step(self, batch, index):
        self.seen[self.current_epoch] += batch.image.double().sum(dim=(1, 2, 3)).tolist()
        return self.weight.sum()

    def validation_step(self, batch, index):
        """Nothing."""

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.0)


def _seen(config, global_seed=0):
    L.seed_everything(global_seed, workers=True, verbose=False)
    spy, data = Spy(), PatchData(config)
    trainer = L.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
        use_distributed_sampler=False,
    )
    trainer.fit(spy, data)
    return spy.seen


@pytest.fixture
def alone(config):
    return _seen(config)


@pytest.mark.filterwarnings("ignore:.*does not have many workers.*", "ignore:.*LeafSpec.*", "ignore:.*number of training batches.*")
class TestWithTrainer:
    @pytest.mark.parametrize("workers", [1, 2])
    def test_the_number_of_workers_changes_nothing_and_they_persist(self, config, alone, workers):
        config = config.model_copy(update={"workers": workers})
        assert PatchData(config).train_dataloader().persistent_workers
        assert _seen(config) == alone

    def test_every_patch_of_every_epoch_is_another(self, config, alone):
        length = config.batch * config.steps_per_epoch
        assert [len(epoch) for epoch in alone] == [length] * EPOCHS
        assert len({value for epoch in alone for value in epoch}) == EPOCHS * length

    def test_patches_hang_on_the_runs_seed_and_on_no_global_one(self, config, alone):
        assert _seen(config, global_seed=99) == alone
        assert _seen(config.model_copy(update={"seed": 5})) != alone

    def test_a_patch_leaves_the_global_generator_alone(self, config):
        data = PatchData(config)
        torch.manual_seed(3)
        wanted = torch.rand(4)
        torch.manual_seed(3)
        data.training_set[0]
        assert torch.equal(torch.rand(4), wanted)

    def test_each_worker_holds_one_handle_of_its_own(self, config, dataset, tmp_path, monkeypatch):
        plain = Patches.__getitem__

        def counting(self, index):
            patch = plain(self, index)
            folder = f"/proc/{os.getpid()}/fd"
            paths = [os.path.realpath(os.path.join(folder, name)) for name in os.listdir(folder)]
            (tmp_path / str(os.getpid())).write_text(str(paths.count(os.path.realpath(dataset))))
            return patch

        monkeypatch.setattr(Patches, "__getitem__", counting)
        _seen(config.model_copy(update={"workers": 2}))
        counts = {int(path.name): int(path.read_text()) for path in tmp_path.iterdir()}
        assert len(counts) == 2
        assert os.getpid() not in counts
        assert set(counts.values()) == {1}
