"""Hold the published form against AtomAI's rVAE, number for number: the same data, the same weights, the same epochs.

    python scripts/compare_published.py --peer /path/to/atomai/python            # pip install atomai, in an environment of its own

First the objective of one batch, with one noise and AtomAI's own weights in both networks, before and after AtomAI's training: loss, parts
and norm of the gradient must agree to float noise. Then the means over each epoch from AtomAI's first weights on: its training, and ours
with its optimiser, which see the same sub-images in other orders; and ours as `train rvae` has it. `--golden FILE` keeps one batch for
tests/nets/test_rvae.py.
"""

from __future__ import annotations

import argparse
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

from stemzoo.export.atomai import load_safely, rvae_of
from stemzoo.nets.rvae import RVAE
from stemzoo.simulation.motifs import MOTIFS, Recording, record
from stemzoo.training.encoding import EncoderTask
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.subimages import SubImageData
from stemzoo.types import SubImages

PARTS = ("loss", "misfit", "angle", "latents")


def main() -> None:
    """Print both sides."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("--peer", required=True, help="a Python that has AtomAI")
    ask.add_argument("--n", type=int, default=1000)
    ask.add_argument("--window", type=int, default=16)
    ask.add_argument("--epochs", type=int, default=20)
    ask.add_argument("--rate", type=float, default=1e-3)
    ask.add_argument("--batch", type=int, default=100)
    ask.add_argument("--width", type=int, default=128)
    ask.add_argument("--rotation-prior", type=float, default=0.3, help="rad")
    ask.add_argument("--turn", type=float, default=30.0, help="largest rotation to either side [degrees]")
    ask.add_argument("--golden", type=Path, help="write a batch, AtomAI's weights and its numbers here")
    options = ask.parse_args()
    torch.set_num_threads(1)
    how = Recording(window_px=options.window, pixel_size=6.4 / options.window, offset_px=0.0, turn=np.radians(options.turn))
    images = record(options.n, 1000, how, MOTIFS[1:2]).images
    images = (images - images.min()) / np.ptp(images)
    noise = np.random.default_rng(0).standard_normal((min(options.n, 64), 3)).astype(np.float32)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        np.savez(folder / "data.npz", train=images, batch=images[: len(noise)], noise=noise)
        settings = [str(getattr(options, key)) for key in ("epochs", "rate", "batch", "rotation_prior", "width")]
        flags = [
            word for pair in zip(("--epochs", "--rate", "--batch", "--rotation-prior", "--width"), settings, strict=True) for word in pair
        ]
        script = Path(__file__).parent / "peers" / "loss_atomai.py"
        subprocess.run([options.peer, str(script), str(folder / "data.npz"), str(folder), *flags], check=True, stderr=subprocess.DEVNULL)
        theirs = dict(np.load(folder / "loss.npz"))
        nets = {when: rvae_of(load_safely(folder / f"{when}.tar"), rotation_sigma=options.rotation_prior) for when in ("first", "last")}
        print(f"{'one batch':22s}" + "".join(f"{part:>14s}" for part in (*PARTS, "|gradient|")))
        for when, key in (("first", "before"), ("last", "after")):
            ours = of_the_batch(nets[when], images[: len(noise)], noise)
            show(f"AtomAI, {key} training", theirs[key])
            show("the same weights here", ours)
            scale = np.where(np.arange(5) < 4, theirs[key][0], theirs[key][4])
            print(f"{'difference / loss':22s}" + "".join(f"{value:14.1e}" for value in np.abs(ours - theirs[key]) / scale))
        if options.golden:
            keep(options.golden, folder, images[: len(noise)], noise, theirs, options.rotation_prior)
        print(f"\n{'means over an epoch':22s}" + "".join(f"{part:>14s}" for part in PARTS) + "   AtomAI | its optimiser here | ours")
        config = EncoderConfig(
            form="published", epochs=options.epochs, min_steps=1, batch=options.batch, width=options.width // 2, validation_fraction=0.0,
            rotation_sigma=options.rotation_prior, free_angle=True,
        )  # fmt: skip
        alike = by_their_optimiser(nets["first"], images, config, options.rate)
        own = by_ours(images, config)
        for number in range(options.epochs):
            for who, rows in (("AtomAI", theirs["epochs"]), ("its optimiser, here", alike), ("as trained here", own)):
                show(f"{number + 1:3d}  {who}", rows[number])


def show(name: str, values: np.ndarray) -> None:
    """Print a row."""
    print(f"{name:22s}" + "".join(f"{value:14.6g}" for value in values), flush=True)


def of_the_batch(net: RVAE, images: np.ndarray, noise: np.ndarray) -> np.ndarray:
    """Return loss, its parts, and the norm of its gradient."""
    net.zero_grad()
    parts = [part.mean() for part in net.bound(net.normalise(torch.from_numpy(images)), torch.from_numpy(noise))]
    loss = torch.stack(parts).sum()
    loss.backward()  # type: ignore[no-untyped-call]
    gradients = [parameter.grad.flatten() for parameter in net.parameters() if parameter.grad is not None]
    return np.array([float(value) for value in (loss, *parts, torch.cat(gradients).norm())])


def by_their_optimiser(net: RVAE, images: np.ndarray, config: EncoderConfig, rate: float) -> np.ndarray:
    """Return (epochs, 4) means of loss and parts, trained from `net` as AtomAI trains: Adam, whole batches in a new order each epoch."""
    optimiser = torch.optim.Adam(net.parameters(), lr=rate)
    shuffle, rows, whole = torch.Generator().manual_seed(0), [], torch.from_numpy(images)
    for _ in range(config.epochs):
        steps = []
        for chosen in torch.randperm(len(images), generator=shuffle).split(config.batch):  # type: ignore[no-untyped-call]
            if len(chosen) == config.batch:
                noise = torch.randn(len(chosen), net.n_code, generator=shuffle)
                parts = torch.stack([part.mean() for part in net.bound(net.normalise(whole[chosen]), noise)])
                optimiser.zero_grad()
                parts.sum().backward()  # type: ignore[no-untyped-call]
                optimiser.step()
                steps.append([float(parts.sum()), *parts.tolist()])
        rows.append(np.mean(steps, axis=0))
    return np.array(rows)


def by_ours(images: np.ndarray, config: EncoderConfig) -> np.ndarray:
    """Return (epochs, 4) means of loss and parts as `fit_encoder` trains, in AtomAI's units: sub-images between 0 and 1."""
    import lightning as L

    n = len(images)
    data = SubImageData.from_subimages(SubImages(images, np.zeros(n, int), np.arange(n), np.ones(n, bool)), config)
    torch.manual_seed(0)
    task = EncoderTask.for_data(config, data)
    task.net.mean.fill_(0.0)
    task.net.std.fill_(1.0)
    rows: list[list[float]] = []

    class Note(L.Callback):
        def note(self, trainer: L.Trainer) -> None:
            named = ("loss", "misfit", "divergence_rotation", "divergence")
            rows.append([float(trainer.callback_metrics[f"train_{name}"]) for name in named])

        def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch:
                self.note(trainer)

        def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            self.note(trainer)

    quiet: dict[str, Any] = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "enable_model_summary": False}
    L.Trainer(accelerator="cpu", devices=1, max_epochs=config.epochs, limit_val_batches=0, callbacks=[Note()], **quiet).fit(task, data)
    return np.array(rows)


def keep(path: Path, folder: Path, images: np.ndarray, noise: np.ndarray, theirs: dict[str, np.ndarray], prior: float) -> None:
    """Write a batch, AtomAI's trained weights and what AtomAI makes of them."""
    held = load_safely(folder / "last.tar")
    weights = {f"{part}.{name}": value.numpy() for part in ("encoder", "decoder") for name, value in held[part].items()}
    np.savez_compressed(path, images=images, noise=noise, numbers=theirs["after"], prior=prior, **weights)


if __name__ == "__main__":
    main()
