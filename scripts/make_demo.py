"""Simulate the frame that ships with the package and that `make demo` analyses: stemzoo/demo/sr3fe2o7_100.tif.

    python scripts/make_demo.py --out frame.tif

The frame that ships is kept as it is, since pictures, golden figures and tests hang on it. It was drawn by an earlier simulation, in which
columns lost no electrons to the crystal around them; today the same specimen under the same optics is drawn with other random numbers and
more background. To replace it, name it as --out, and make the README's picture and the tests' figures anew.

Sr3Fe2O7 along [100], 512 x 512 px at 0.2 Å/px, about 1200 electrons a column, thinner towards one side, with a stacking fault. The file is
an ImageJ TIFF of detector counts whose pixel size stands in its tags.
"""

import argparse
from pathlib import Path

import numpy as np
import tifffile

from stemzoo.simulation import load, simulate
from stemzoo.simulation.recipe import Defect

ROOT = Path(__file__).parents[1]
SEED = 2


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, required=True, help="the TIFF to write")
    out = parser.parse_args().out
    recipe = load(ROOT / "datasets" / "sr3fe2o7.toml")
    settings = {
        "frame": {"size_px": 512, "sampling": 0.2, "rotation_deg": 8.0},
        "optics": {"convergence_mrad": 25.0, "defocus_nm": 1.0, "astigmatism_nm": 0.5, "coma_nm": 10.0, "source_fwhm": 0.8},
        "specimen": {
            "thickness_nm": 18.0,
            "thickness_gradient": 0.8,
            "displacement": 0.02,
            "background": 0.2,
            "carbon": 0.03,
            "contamination": 0.1,
        },
        "dose": {"counts_per_column": 1200.0},
        "scan": {"row_jitter": 0.02, "drift": 0.3, "shear": 0.002},
    }
    for table, values in settings.items():
        recipe = recipe.model_copy(update={table: getattr(recipe, table).model_copy(update=values)})
    fault = Defect(kind="fault", shift=1.9)
    recipe = recipe.model_copy(update={"defects": (fault,)})
    frame = simulate(recipe, np.random.default_rng(SEED))
    counts = np.clip(frame.image, 0, 65535).astype(np.uint16)
    per_nm = 10 / frame.pixel_size
    tifffile.imwrite(out, counts, imagej=True, resolution=(per_nm, per_nm), metadata={"unit": "nm"})
    print(f"{out}: {len(frame.yx)} columns, {counts.max()} counts at most")


if __name__ == "__main__":
    main()
