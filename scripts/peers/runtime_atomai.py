"""AtomAI on the frames of bench_runtime.py; run by its own interpreter, which has atomai and not stemzoo.

    python runtime_atomai.py WORK --seconds 120 --threads 2

Takes WORK/atomai.pt as locate_atomai.py leaves it, or trains one on WORK/train.npz. Each frame WORK/runtime_<size>.npz goes through predict
with refinement, extract_subimages and an rVAE's encode, as its tutorials do it; the rVAE has AtomAI's default size and is trained for one
cycle, which changes what it says but not how long it takes. Writes WORK/runtime_atomai.npz.
"""

import time

BEGAN = time.perf_counter()

import argparse  # noqa: E402
import contextlib  # noqa: E402
import io  # noqa: E402
import resource  # noqa: E402
import warnings  # noqa: E402
from pathlib import Path  # noqa: E402

import numpy as np  # noqa: E402

warnings.filterwarnings("ignore")
WINDOW_PX = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--seconds", type=float, default=120)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    import atomai
    from locate_atomai import peer

    result: dict = {"import_s": time.perf_counter() - BEGAN}
    model = peer(options.work, options.seconds)
    encoder = None
    for path in sorted(options.work.glob("runtime_*.npz"), key=lambda path: path.stat().st_size):
        if not path.stem[8:].isdigit():
            continue
        frame = np.load(path)
        image = frame["image"].astype(np.float64)
        best: dict = {}
        for _ in range(options.repeats):
            stages: dict = {}
            with stage(stages, "predict + refine"):
                _, found = model.predict(image, refine=True, d=round(0.4 * float(frame["spacing_px"])))
            with stage(stages, "sub-images"):
                pieces = atomai.utils.extract_subimages(image, found[0][:, :2], WINDOW_PX)[0]
            pieces = pieces[..., 0] if pieces.ndim == 4 else pieces
            pieces = ((pieces - pieces.min()) / np.ptp(pieces)).astype(np.float32)
            if encoder is None:
                encoder = atomai.models.rVAE((WINDOW_PX, WINDOW_PX), latent_dim=2, translation=False)
                with contextlib.redirect_stdout(io.StringIO()):
                    encoder.fit(pieces, training_cycles=1)
                    encoder.encode(pieces)
            with stage(stages, "encode"):
                encoder.encode(pieces)
            if not best or sum(stages.values()) < sum(best.values()):
                best = stages
        size = path.stem[8:]
        result |= {f"{size}_stages": list(best), f"{size}_seconds": list(best.values()), f"{size}_found": len(found[0])}
        if size == "512":
            result["first_s"] = result["import_s"] + result["512_seconds"][0]
        if size == "1024":
            result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(options.work / "runtime_atomai.npz", **result)


@contextlib.contextmanager
def stage(stages, name):
    began = time.perf_counter()
    with contextlib.redirect_stdout(io.StringIO()):
        yield
    stages[name] = time.perf_counter() - began


if __name__ == "__main__":
    main()
