"""A DigitalMicrograph (GMS 3.4 or newer) Python script that marks the columns of the front image and shows maps of angle and latents.

It needs no server: copy the folder that `stemzoo bundle` made to the PC, install NumPy and onnxruntime from its wheels into GMS's own
Python, set FOLDER, open this file in DigitalMicrograph as a Python script and execute it with an image in front.
"""

import os
import sys

FOLDER = os.environ.get("STEMZOO_FOLDER", r"C:\stemzoo")
sys.path.insert(0, os.path.join(FOLDER, "stemzoo.pyz"))
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import DigitalMicrograph as DM  # noqa: E402
import numpy as np  # noqa: E402

from stemzoo.runtime import Bundle, Encoder, Segmenter, analyze  # noqa: E402
from stemzoo.runtime.app import find_models  # noqa: E402
from stemzoo.runtime.doubts import doubts_of, with_strangeness  # noqa: E402
from stemzoo.runtime.session import SessionOptions  # noqa: E402
from stemzoo.types import Frames  # noqa: E402

THREADS = SessionOptions(threads=1, spin=False)  # the other cores are the acquisition's
ANGSTROM = {"nm": 10.0, "Å": 1.0, "A": 1.0, "µm": 1e4, "um": 1e4, "pm": 0.01}
OVAL = 6  # DigitalMicrograph's number for an oval annotation
MARKED = 3000


def models():
    """Return the segmenter and the encoder in FOLDER, the newest of each."""
    from pathlib import Path

    bundles = [Bundle.load(folder, THREADS) for folder in find_models(Path(FOLDER) / "models").values()]
    by_task = {bundle.spec.task: bundle for bundle in bundles}
    return Segmenter(by_task["segmentation"]), Encoder(by_task["encoding"]) if "encoding" in by_task else None


def mark(image, columns):
    """Draw a small circle round each column."""
    display = image.GetImageDisplay(0)
    for y, x in columns.yx[:MARKED]:
        circle = display.AddNewComponent(OVAL, float(y - 1), float(x - 1), float(y + 2), float(x + 2))
        circle.SetForegroundColor(0.34, 0.71, 0.91)


def show_map(values, yx, shape, title, calibration):
    """Show a map (H / 4, W / 4) of one value a column.

    Where there is no column, or no value, it is a whole number below all values, which the title names: 0 is an angle like any other,
    and not every DigitalMicrograph draws an image that holds NaN.
    """
    known = values[np.isfinite(values)]
    none = float(np.floor(known.min())) - 1 if len(known) else 0.0
    height, width = (max(1, side // 4) for side in shape)
    data = np.full((height, width), none, dtype=np.float32)
    for (y, x), value in zip(yx, values):
        row, col = int(y) // 4, int(x) // 4
        if np.isfinite(value):
            data[max(row - 1, 0) : row + 2, max(col - 1, 0) : col + 2] = value
    shown = DM.CreateImage(data)
    shown.SetName(f"{title} ({none:g}: none)")
    origin, scale, unit = calibration
    for dimension in (0, 1):
        shown.SetDimensionCalibration(dimension, origin, 4 * scale, unit, 0)
    shown.ShowImage()


def main():
    """Analyse the front image."""
    image = DM.GetFrontImage()
    data = np.array(image.GetNumArray())  # a copy: DigitalMicrograph may change its own
    calibration = image.GetDimensionCalibration(0, 0)
    unit = ANGSTROM.get(calibration[2])
    pixel_size = calibration[1] * unit if unit else None
    frames = Frames(data[np.newaxis], pixel_size, "file" if pixel_size else "unknown", image.GetName())
    segmenter, encoder = models()
    analysis = analyze(frames, segmenter, encoder)
    if encoder is not None:
        analysis = with_strangeness(analysis, encoder, "bring an encoder of this structure along, or none")
    columns, encoding = analysis.columns[0], analysis.encoding
    mark(image, columns)
    if encoding is not None:
        show_map(encoding.folded, columns.yx, data.shape, "Angle of " + image.GetName(), calibration)
        for k in range(encoding.latents.shape[1]):
            show_map(encoding.latents[:, k], columns.yx, data.shape, f"Latent {k + 1} of {image.GetName()}", calibration)
    print(f"{len(columns)} columns, {sum(analysis.seconds.values()):.1f} s")
    if len(columns) > MARKED:
        print(f"warning: the first {MARKED} of them are marked")
    for doubt in doubts_of(analysis):
        print("warning:", doubt)
    for notice in analysis.notices:
        print("note:", notice)


main()
