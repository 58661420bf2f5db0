"""AtomAI on the frames of bench_locate.py; run by its own interpreter, which has atomai and not stemzoo.

    python locate_atomai.py WORK --seconds 120 --threads 2

Trains a Segmentor of AtomAI's default kind on WORK/train.npz for the given processor time and keeps it as WORK/atomai.pt, or takes the one
kept there, then writes WORK/atomai.npz: positions of every frame with and without its own refinement, seconds a frame by size, peak memory.
"""

import argparse
import contextlib
import io
import resource
import time
import warnings
from pathlib import Path

import numpy as np

warnings.filterwarnings("ignore")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--threads", type=int, default=2)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    model = peer(options.work, options.seconds)
    result = {}
    for name in sorted(path.stem for path in options.work.glob("frame_*.npz")):
        frame = np.load(options.work / f"{name}.npz")
        for refined in (False, True):
            spacing = round(0.4 * float(frame["spacing_px"]))
            seconds, yx = timed(model, frame["image"], refined, spacing, int(frame["repeats"]))
            result[f"{name}{'_refined' if refined else ''}"] = yx
            result[f"{name}{'_refined' if refined else ''}_seconds"] = seconds
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(options.work / "atomai.npz", **result)


def peer(work, seconds):
    """AtomAI's segmentor, trained on work/train.npz for so many processor seconds unless work/atomai.pt holds it already."""
    import atomai
    import torch

    model = atomai.models.Segmentor("Unet", nb_classes=1)
    kept = work / "atomai.pt"
    if not kept.exists():
        cycles, spent = train(model, work / "train.npz", seconds)
        torch.save({"net": model.net.state_dict(), "cycles": cycles, "seconds": spent}, kept)
    trained = torch.load(kept)
    model.net.load_state_dict(trained["net"])
    print(f"AtomAI {atomai.__version__}: {trained['cycles']} cycles of 4 patches, {trained['seconds']:.0f} processor s", flush=True)
    return model


def train(model, path, seconds):
    """Train for so many seconds of processor time; return the cycles and the seconds they took."""
    data = np.load(path)
    images, masks = data["images"].astype(np.float32), data["masks"].astype(np.float32)
    low, high = (limit(images, axis=(1, 2), keepdims=True) for limit in (np.min, np.max))
    images = (images - low) / (high - low)  # as its predict() does with what it is given
    busy, cycles, more = time.process_time(), 0, 5
    while (spent := time.process_time() - busy) < seconds:
        more = max(1, min(100, int((seconds - spent) / (spent / cycles)))) if cycles else more
        with contextlib.redirect_stdout(io.StringIO()):
            model.fit(images[:-8], masks[:-8], images[-8:], masks[-8:], training_cycles=more, batch_size=4, plot_training_history=False)
        cycles += more
    return cycles, spent


def timed(model, image, refined, spacing, repeats):
    """Return the best times by the clock and of the processor, and the positions (n, 2)."""
    best, worked, yx = np.inf, np.inf, np.zeros((0, 2))
    for _ in range(repeats):
        began, busy = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()):
            extra = {"refine": True, "d": spacing} if refined else {}
            try:
                _, found = model.predict(image.astype(np.float64), **extra)
            except (TypeError, ValueError):  # its fit can want more pixels than its window has
                _, found = model.predict(image.astype(np.float64))
        best, worked = min(best, time.perf_counter() - began), min(worked, time.process_time() - busy)
        yx = np.asarray(found[0])[:, :2] if len(found[0]) else yx
    return (best, worked), yx


if __name__ == "__main__":
    main()
