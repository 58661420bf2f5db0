"""atomap on the frames of bench_locate.py; run by its own interpreter, which has atomap and not stemzoo.

    python locate_atomap.py WORK

Peaks at the separation that a user would tune for the lattice (0.6 of the spacing), centre of mass, then its Gaussian refinement. Writes
WORK/atomap.npz.
"""

import argparse
import contextlib
import io
import os
import resource
import time
import warnings
from pathlib import Path

import numpy as np

os.environ["MPLBACKEND"] = "Agg"
warnings.filterwarnings("ignore")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("work", type=Path)
    parser.add_argument("--largest", type=int, default=1024, help="side of the largest frame; 2048² takes minutes")
    options = parser.parse_args()
    result = {}
    for path in sorted(options.work.glob("frame_*.npz")):
        frame = np.load(path)
        if frame["image"].shape[0] > options.largest:
            continue
        began, busy = time.perf_counter(), time.process_time()
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            result[path.stem] = located(frame["image"].astype(float), max(2, round(0.6 * float(frame["spacing_px"]))))
        result[f"{path.stem}_seconds"] = time.perf_counter() - began, time.process_time() - busy
    result["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    np.savez(options.work / "atomap.npz", **result)


def located(image, separation):
    """Return the positions (n, 2), y before x."""
    import atomap.api as atomap
    import hyperspy.api as hyperspy

    signal = hyperspy.signals.Signal2D(image)
    lattice = atomap.Sublattice(atomap.get_atom_positions(signal, separation=separation), image=signal.data)
    lattice.find_nearest_neighbors()
    lattice.refine_atom_positions_using_center_of_mass(show_progressbar=False)
    lattice.refine_atom_positions_using_2d_gaussian(show_progressbar=False)
    return np.stack([lattice.y_position, lattice.x_position], axis=1)


if __name__ == "__main__":
    main()
