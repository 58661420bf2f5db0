"""AtomAI's rVAE on the sub-images of scripts/bench_rvae.py, in an environment of its own (pip install atomai; nothing of stemzoo's).

python scripts/bench_rvae.py --save data.npz …                # stemzoo's environment
python scripts/peers/rvae_atomai.py data.npz peer.npz         # AtomAI's; --epochs 30 with its own defaults is what a first try does
python scripts/peers/rvae_atomai.py data.npz peer.npz --epochs 100 --rate 1e-3 --rotation-prior 0.3      # kinder settings
python scripts/bench_rvae.py --external peer.npz …            # the same options as with --save
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time

import numpy as np


def main() -> None:
    """Train on `train`, write the angles and latents of `test`."""
    ask = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ask.add_argument("data")
    ask.add_argument("out")
    ask.add_argument("--epochs", type=int, default=30)
    ask.add_argument("--rate", type=float, default=1e-4, help="learning rate; AtomAI's own is 1e-4")
    ask.add_argument("--rotation-prior", type=float, default=0.1, help="rad; AtomAI's own is 0.1")
    ask.add_argument("--translation", action="store_true")
    ask.add_argument("--threads", type=int, default=2)
    options = ask.parse_args()
    import atomai
    import torch

    torch.set_num_threads(options.threads)
    data = np.load(options.data)
    low, high = data["train"].min(), data["train"].max()
    train, test = ((data[name] - low) / (high - low) for name in ("train", "test"))
    model = atomai.models.rVAE(train.shape[1:], latent_dim=2, translation=options.translation)
    wall, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(sys.stderr):
        model.fit(
            train,
            training_cycles=options.epochs,
            rotation_prior=options.rotation_prior,
            optimizer=lambda parameters: torch.optim.Adam(parameters, lr=options.rate),
        )
        code = model.encode(test)[0]
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    n_place = 3 if options.translation else 1
    np.savez(options.out, angle=code[:, 0], latents=code[:, n_place:])
    print(f"AtomAI {atomai.__version__}: {options.epochs} epochs of {len(train)}, {wall:.0f} s, {cpu:.0f} CPU s")


if __name__ == "__main__":
    main()
