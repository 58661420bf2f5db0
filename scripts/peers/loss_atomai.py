"""AtomAI's objective, number for number, in an environment of its own; called by scripts/compare_published.py, which see.

    /path/to/atomai/python scripts/peers/loss_atomai.py data.npz FOLDER --epochs 20

Of `train` (N, S, S), between 0 and 1, and of the fixed batch and noise in data.npz: the parts of AtomAI's negative bound before and after
training, by its own functions, and its means over each epoch. Its network goes into FOLDER as its save_model writes it.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
from pathlib import Path
from typing import Any

import numpy as np


def main() -> None:
    """Write FOLDER/loss.npz, first.tar and last.tar."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("data", type=Path)
    ask.add_argument("folder", type=Path)
    ask.add_argument("--epochs", type=int, default=20)
    ask.add_argument("--rate", type=float, default=1e-3)
    ask.add_argument("--batch", type=int, default=100)
    ask.add_argument("--rotation-prior", type=float, default=0.3)
    ask.add_argument("--width", type=int, default=128)
    options = ask.parse_args()
    import torch
    from atomai.losses_metrics.vi_losses import kld_normal, kld_rot, reconstruction_loss
    from atomai.models import rVAE

    torch.set_num_threads(1)

    class Watched(rVAE):  # type: ignore[misc]
        """AtomAI's model, which notes the parts of what it minimises and takes its noise from outside where there is some."""

        noise: Any = None

        @classmethod
        def reparameterize(cls, z_mean: Any, z_sd: Any) -> Any:
            return z_mean + z_sd * cls.noise if cls.noise is not None else super().reparameterize(z_mean, z_sd)

        def elbo_fn(self, x: Any, x_reconstr: Any, *args: Any, **kwargs: Any) -> Any:
            bound = super().elbo_fn(x, x_reconstr, *args, **kwargs)
            z_mean, z_logsd = args
            parts = (
                reconstruction_loss(self.loss, self.in_dim, x, x_reconstr).mean(),
                kld_rot(self.kdict_["phi_prior"], z_logsd[:, 0]).mean(),
                kld_normal((z_mean[:, 1:], z_logsd[:, 1:])).mean(),
            )
            self.parts.append([-float(bound), *map(float, parts)])
            return bound

    data = np.load(options.data)
    width = {"numhidden_encoder": options.width, "numhidden_decoder": options.width}
    model = Watched(data["train"].shape[1:], latent_dim=data["noise"].shape[1] - 1, translation=False, seed=1, **width)
    model.loss, model.parts = "mse", []
    model.kdict_["phi_prior"] = options.rotation_prior
    optimiser = {"optimizer": lambda parameters: torch.optim.Adam(parameters, lr=options.rate)}

    def of_the_batch() -> list[float]:
        """Loss and its parts, and the gradient's norm, of the fixed batch with the fixed noise."""
        model.parts, Watched.noise = [], torch.from_numpy(data["noise"])
        networks = [model.encoder_net, model.decoder_net]
        for net in networks:
            net.zero_grad()
        (-model.forward_compute_elbo(torch.from_numpy(data["batch"]))).backward()
        Watched.noise = None
        gradient = torch.cat([p.grad.flatten() for net in networks for p in net.parameters()]).norm()
        return [*model.parts[0], float(gradient)]

    def keep(name: str) -> None:
        networks = {"encoder": model.encoder_net.state_dict(), "decoder": model.decoder_net.state_dict()}
        torch.save({**model.metadict, **networks}, options.folder / name)

    with contextlib.redirect_stdout(sys.stderr):
        keep("first.tar")
        before, epochs = of_the_batch(), []
        model.kdict_["num_iter"] = 0
        for number in range(options.epochs):
            model.parts = []
            more = {**optimiser, "rotation_prior": options.rotation_prior, "filename": str(options.folder / "atomai")}
            model.fit(data["train"], training_cycles=1, batch_size=options.batch, **(more if number == 0 else {**more, "optimizer": None}))
            epochs.append(np.mean(model.parts, axis=0))
        keep("last.tar")
        after = of_the_batch()
    np.savez(options.folder / "loss.npz", before=before, after=after, epochs=epochs)


if __name__ == "__main__":
    main()
