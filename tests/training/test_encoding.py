"""Training an encoder: angles and latents of simulated motifs, their errors, one gauge for all seeds, refusals, streaming from HDF5."""

from __future__ import annotations

import os
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from stemzoo.errors import DatasetError, FrameError
from stemzoo.io.dataset_writer import DatasetWriter, LabelledFrame
from stemzoo.nets.graphs import DecoderGraph, EncoderGraph
from stemzoo.simulation.motifs import MOTIFS, Recorded, Recording, record
from stemzoo.training.encoding import EncoderTask, epochs_for, export_parts, gaussian_divergence
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.fitting import fit_encoder
from stemzoo.training.subimages import SubImageData
from stemzoo.types import SubImages

SHORT = EncoderConfig(width=32, epochs=1, min_steps=400, batch=64)
PAIR = (MOTIFS[1], MOTIFS[2])
HOW = Recording(window_px=24, pixel_size=0.25, offset_px=0.5)


def as_subimages(images: np.ndarray, frame: np.ndarray | None = None) -> SubImages:
    """Sub-images that all lie inside their frames."""
    n = len(images)
    return SubImages(images, np.zeros(n, int) if frame is None else frame, np.arange(n), np.ones(n, bool), 0.25)


def encode(task: EncoderTask, images: np.ndarray) -> tuple[np.ndarray, ...]:
    """Angle, sigma, symmetry, latents."""
    with torch.no_grad():
        return tuple(x.numpy() for x in EncoderGraph(task.net)(torch.from_numpy(np.ascontiguousarray(images))))


@pytest.fixture(scope="module")
def learned() -> EncoderTask:
    """An encoder that has seen 1200 sub-images of an asymmetric and a threefold motif, at all angles."""
    return fit_encoder(as_subimages(record(1200, 0, HOW, PAIR).images), SHORT)


@pytest.fixture(scope="module")
def unseen() -> Recorded:
    return record(600, 1, HOW, PAIR)


def test_angles_of_unseen_motifs_are_right_and_their_errors_mean_what_they_say(learned, unseen):
    angle, sigma, symmetry, _ = encode(learned, unseen.images)
    for kind, motif in enumerate(PAIR):
        mine = unseen.kind == kind
        assert (symmetry[mine] == motif.fold).mean() > 0.98
        turn = np.exp(1j * motif.fold * (angle - unseen.angle)[mine])
        error = np.angle(turn / turn.mean()) / motif.fold
        assert np.degrees(np.median(np.abs(error))) < 0.8
        standardised = error / sigma[mine]
        assert 0.7 < 1.4826 * np.median(np.abs(standardised)) < 1.4


def test_latents_tell_the_motifs_apart_and_stay_put_under_rotation(learned, unseen):
    angle, _, symmetry, latents = encode(learned, unseen.images)
    turned, _, _, again = encode(learned, np.rot90(unseen.images, axes=(1, 2)))
    centres = np.array([latents[unseen.kind == k].mean(axis=0) for k in (0, 1)])
    apart = np.linalg.norm(centres[0] - centres[1])
    nearest = np.linalg.norm(latents[:, None] - centres, axis=2).argmin(axis=1)
    assert (nearest == unseen.kind).mean() > 0.99
    assert np.median(np.linalg.norm(again - latents, axis=1)) < 0.1 * apart
    change = np.angle(np.exp(1j * symmetry * (turned - angle - np.pi / 2))) / symmetry
    assert np.degrees(np.median(np.abs(change))) < 1.0


def test_the_decoder_draws_the_class(learned, unseen):
    angle, _, _, latents = encode(learned, unseen.images)
    with torch.no_grad():
        drawn = DecoderGraph(learned.net)(torch.from_numpy(latents), torch.from_numpy(angle))
        images = learned.net.normalise(torch.from_numpy(unseen.images))
    centred = np.abs(unseen.offset).max(axis=1) < 0.15
    assert (drawn - images)[centred].square().mean() < 0.25 * images[centred].var()


def test_another_seed_has_the_same_gauge(learned, unseen):
    other = fit_encoder(as_subimages(record(1200, 5, HOW, PAIR).images), SHORT.model_copy(update={"seed": 3}))
    (one, _, n, _), (two, *_) = encode(learned, unseen.images), encode(other, unseen.images)
    for kind in (0, 1):
        mine = unseen.kind == kind
        mean = np.angle(np.exp(1j * n[mine] * (one - two)[mine]).mean()) / n[mine][0]
        assert np.degrees(abs(mean)) < 3.0


def test_a_clean_crystal_in_one_orientation_is_learned():
    """Corners of the window are then seen at one angle only; what the pattern is elsewhere must not be rewarded."""
    how = Recording(window_px=24, pixel_size=0.25, offset_px=0.0, turn=0.0, dose=3e4, disorder=0.01)
    task = fit_encoder(as_subimages(record(400, 0, how, PAIR).images), SHORT)
    unseen = record(200, 1, how, PAIR)
    angle, sigma, symmetry, latents = encode(task, unseen.images)
    assert np.isfinite(latents).all()
    with torch.no_grad():
        drawn = DecoderGraph(task.net)(torch.from_numpy(latents), torch.from_numpy(angle))
        images = task.net.normalise(torch.from_numpy(unseen.images))
    assert drawn.abs().max() < 2 * images.abs().max()
    for kind, motif in enumerate(PAIR):
        mine = unseen.kind == kind
        assert (symmetry[mine] == motif.fold).all()
        turn = np.exp(1j * motif.fold * angle[mine])
        error = np.angle(turn / turn.mean()) / motif.fold
        assert np.degrees(np.std(error)) < 0.3
        assert 0.6 < np.std(error / sigma[mine]) < 1.5


def test_training_is_repeatable_and_leaves_the_global_random_state_alone():
    images = as_subimages(record(200, 2, HOW).images)
    config = SHORT.model_copy(update={"min_steps": 12})
    torch.manual_seed(99)
    wanted = torch.get_rng_state()
    one, two = fit_encoder(images, config), fit_encoder(images, config)
    assert torch.equal(torch.get_rng_state(), wanted)
    for (name, a), b in zip(one.net.state_dict().items(), two.net.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("n", "given", "epochs"), [(400, {}, 20), (400, {"min_steps": 300}, 50), (4000, {"max_steps": 240}, 4), (4000, {}, 20)]
)
def test_small_sets_get_more_epochs_and_large_ones_fewer(n, given, epochs):
    config = EncoderConfig(**{"batch": 64, "min_steps": 1, "validation_fraction": 0, **given})
    images = np.random.default_rng(0).random((n, 8, 8), dtype=np.float32)
    assert epochs_for(config, SubImageData.from_subimages(as_subimages(images), config)) == epochs


def test_progress_counts_epochs():
    told = []
    fit_encoder(as_subimages(record(100, 2, HOW).images), SHORT.model_copy(update={"min_steps": 8}), lambda *said: told.append(said))
    assert told[0][:2] == ("fit encoder", 1) and told[-1][1] == told[-1][2]


def test_nothing_is_said_of_srun_where_slurm_is_installed(tmp_path, monkeypatch):
    """A warning, which the tests take for an error."""
    (tmp_path / "srun").write_text("#!/bin/sh\n")
    (tmp_path / "srun").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    fit_encoder(as_subimages(record(100, 2, HOW).images), SHORT.model_copy(update={"min_steps": 8}))


@pytest.mark.parametrize("form", ["polar", "published"])
def test_the_loss_of_one_batch_falls(form):
    config = EncoderConfig(form=form, width=32, latents=3, batch=16, validation_fraction=0)
    data = SubImageData.from_subimages(as_subimages(record(64, 4, HOW).images), config)
    torch.manual_seed(0)
    task = EncoderTask.for_data(config, data)
    batch = next(iter(data.train_dataloader()))
    optimiser = torch.optim.Adam(task.parameters(), 3e-3)
    task._trainer = None
    losses = []
    step = task._polar if form == "polar" else task._published
    for _ in range(60):
        loss, _ = step(task.net, batch)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    spread = abs(losses[0])
    assert np.mean(losses[-5:]) < losses[0] - 0.2 * spread


@pytest.mark.slow
def test_the_published_form_finds_narrow_rotations_of_an_asymmetric_motif():
    how = Recording(window_px=16, pixel_size=0.375, offset_px=0.0, turn=np.radians(30))
    config = EncoderConfig(form="published", width=32, epochs=40, batch=50, rotation_sigma=0.3)
    task = fit_encoder(as_subimages(record(600, 0, how, (MOTIFS[1],)).images), config)
    unseen = record(300, 1, how, (MOTIFS[1],))
    angle, _, symmetry, _ = encode(task, unseen.images)
    error = angle - unseen.angle - (angle - unseen.angle).mean()
    assert (symmetry == 1).all()
    assert np.degrees(np.median(np.abs(error))) < 2.0


def test_gaussian_divergence_is_zero_for_the_prior():
    assert gaussian_divergence(torch.zeros(1, 2), torch.zeros(1, 2)).item() == 0
    assert gaussian_divergence(torch.ones(1, 2), torch.zeros(1, 2)).item() == pytest.approx(1.0)


def test_what_cannot_be_learned_from_is_refused():
    few = as_subimages(record(40, 0, HOW).images)
    with pytest.raises(DatasetError, match=r"40 sub-images .* wants 64 or more"):
        fit_encoder(few, SHORT)
    outside = SubImages(np.zeros((100, 24, 24), np.float32), np.zeros(100, int), np.arange(100), np.zeros(100, bool))
    with pytest.raises(DatasetError, match="0 sub-images lie wholly inside"):
        fit_encoder(outside, SHORT)
    with pytest.raises(FrameError, match=r"constant \(3\)"):
        fit_encoder(as_subimages(np.full((100, 24, 24), 3, np.float32)), SHORT)
    broken = record(100, 0, HOW).images
    broken[7, 3, 3] = np.nan
    with pytest.raises(FrameError, match="1 of 100 sub-images hold NaN"):
        fit_encoder(as_subimages(broken), SHORT)


def test_frames_are_held_back_whole_and_every_sub_image_comes_once():
    frame = np.repeat(np.arange(10), 40)
    images = np.arange(400, dtype=np.float32)[:, None, None] + np.random.default_rng(0).random((400, 8, 8), dtype=np.float32) * 0.5
    config = SHORT.model_copy(update={"batch": 20, "validation_fraction": 0.2})
    data = SubImageData.from_subimages(as_subimages(images, frame), config)
    train = np.concatenate([batch.image[:, 0, 0].numpy() for batch in data.train_dataloader()]).astype(int)
    val = np.concatenate([batch.image[:, 0, 0].numpy() for batch in data.val_dataloader()]).astype(int)
    assert sorted([*train, *val]) == list(range(400))
    assert not set(frame[train]) & set(frame[val]) and len(set(frame[val])) == 2
    loader, numbers = data.train_dataloader(), []
    none_done = SimpleNamespace(epoch_loop=SimpleNamespace(batch_progress=SimpleNamespace(current=SimpleNamespace(completed=0))))
    for epoch in range(2):
        data.trainer = SimpleNamespace(current_epoch=epoch, fit_loop=none_done)
        numbers.append(torch.cat([batch.number for batch in loader]).tolist())
    assert numbers[0] != numbers[1] and sorted(numbers[0]) == sorted(numbers[1]) == list(range(320))


def test_a_set_larger_than_memory_is_streamed():
    images = np.arange(4000, dtype=np.float32)[:, None, None] + np.zeros((1, 32, 32), np.float32)
    config = SHORT.model_copy(update={"memory_mb": 8, "validation_fraction": 0.0, "batch": 50})
    data = SubImageData.from_subimages(as_subimages(images), config)
    assert max(sum(part.n for part in chunk) for chunk in data.train_chunks) * 4 * 32**2 <= 8 * 2**20
    seen = [(batch.number, batch.image[:, 0, 0]) for batch in data.train_dataloader()]
    assert all(torch.equal(number.float(), value) for number, value in seen)
    assert len({int(n) for number, _ in seen for n in number}) > 3900


def test_windows_are_cut_from_datasets(tmp_path):
    rng = np.random.default_rng(0)
    with DatasetWriter(tmp_path / "d.h5", recipe="", material="test", seed=0) as writer:
        for _ in range(2):
            yx = rng.uniform(0, 63, (100, 2))
            y, x = np.mgrid[:64, :64]
            image = np.exp(-((y - yx[:, 0, None, None]) ** 2 + (x - yx[:, 1, None, None]) ** 2) / 4).sum(0).astype(np.float32)
            writer.add(LabelledFrame(image, yx, np.zeros(100, int), ("column",), 0.2, attributes={"pixel_size": 0.2}))
    config = EncoderConfig(datasets=(str(tmp_path / "d.h5"),), window=3.2, window_px=16, validation_fraction=0.5)
    data = SubImageData.from_files(config)
    batch = next(iter(data.val_dataloader()))
    assert batch.image.shape[1:] == (16, 16) and data.pixel_size == pytest.approx(0.2)
    assert batch.image[:, 7:9, 7:9].mean() > 1.3 * batch.image.mean()


def test_a_checkpoint_gives_back_the_encoder(learned, unseen):
    loaded = {"hyper_parameters": dict(learned.hparams), "state_dict": learned.state_dict()}
    modules, draft = export_parts(loaded)
    with torch.no_grad():
        angle = modules["model"](torch.from_numpy(unseen.images))[0]
    assert np.array_equal(angle.numpy(), encode(learned, unseen.images)[0])
    assert draft["window"] == {"px": 24, "angstrom": pytest.approx(6.0)} and draft["latents"] == 2


def test_a_fit_works_on_one_thread_and_gives_the_others_back() -> None:
    """On a machine that has other things to do a second thread made fits several times as long."""
    before, told = torch.get_num_threads(), []
    torch.set_num_threads(3)
    try:
        fit_encoder(
            as_subimages(record(100, 2, HOW).images),
            SHORT.model_copy(update={"min_steps": 8}),
            lambda *_: told.append(torch.get_num_threads()),
        )
        assert set(told) == {1} and torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before)
