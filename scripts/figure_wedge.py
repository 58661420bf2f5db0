"""Sr3Fe2O7 along [100] with a thickness wedge: what angle and latents follow, as numbers and as docs/wedge.png.

    python scripts/figure_wedge.py

One frame is simulated, its columns are located, and an encoder is fitted to them as `stemzoo analyze --fit-encoder` does. Angle and one
latent should follow the layers of the Ruddlesden-Popper structure, another latent the thickness. Then one scene is simulated at known scan
rotations (not interpolated), and differences of the angles that the zoo's encoder recovers are held against them and the stated errors.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from stemzoo.geometry.angles import wrap
from stemzoo.geometry.matching import match
from stemzoo.report import figures, render, style
from stemzoo.report.field import Field, field_of
from stemzoo.runtime import Bundle, Encoder, Segmenter, cutting, pipeline
from stemzoo.simulation import SimulatedFrame, draw_frames
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.fitting import encode_with, fit_encoder
from stemzoo.types import Analysis, Columns, Encoding, Frames, ModelId
from stemzoo.zoo import resolve

ROOT = Path(__file__).parents[1]
TRUTH = ModelId("truth@1", "0" * 64)
BLOCK = 20.16 / 2  # Å: the structure repeats every half c, moved sideways by half a
TURN = 8.0  # degrees by which the wedge's frame is turned
TURNS = (0.0, 13.0, 45.0, 110.0)
SIZE = 40
SETTINGS: dict[str, Any] = {
    "frame.size_px": 512, "frame.sampling": 0.2, "frame.rotation_deg": TURN, "dose.counts_per_column": 600, "defects": [],
    "specimen.thickness_nm": 20.0, "specimen.thickness_gradient": 0.7, "specimen.background": 0.1, "specimen.vacuum": 0.0,
    "optics.defocus_nm": 0.0, "optics.astigmatism_nm": 0.0, "optics.coma_nm": 0.0, "optics.source_fwhm": 0.6,
    "scan.drift": 0.0, "scan.shear": 0.0, "scan.row_jitter": 0.01,
}  # fmt: skip


def main() -> None:
    """Simulate, fit, print and draw."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "wedge.png")
    parser.add_argument("--window", type=float, default=5.6, help="Å; what `stemzoo study window` proposes for this structure")
    parser.add_argument("--latents", type=int, default=2)
    options = parser.parse_args()
    frame = scene(options.seed, {})
    analysis = pipeline.locate(stack(frame), Segmenter(Bundle.load(resolve("adf-unet"))))
    pieces = cutting.subimages(analysis, options.window / frame.pixel_size, SIZE)
    task = fit_encoder(pieces, EncoderConfig(latents=options.latents, seed=options.seed))
    encoding = along_principal_axes(encode_with(task, pieces))
    pairs = match(analysis.columns[0].yx, frame.yx, 0.5 / frame.pixel_size)
    known = encoding.inside[pairs.found]
    found, truth = pairs.found[known], pairs.truth[known]
    layer, thickness = layers(frame, TURN)[truth], relative_thickness(frame)[truth]
    print(f"{len(found)} columns")
    latents = encoding.latents[found]
    follows = [between(latents[:, k], layer) for k in range(options.latents)]
    with_thickness = [np.corrcoef(latents[:, k], thickness)[0, 1] for k in range(options.latents)]
    first = int(np.argmax(follows))
    last = max((k for k in range(options.latents) if k != first), key=lambda k: abs(with_thickness[k]))
    for k in range(options.latents):
        said = f"{follows[k]:.3f} of its variance lies between layers; correlation with thickness {with_thickness[k]:+.3f}"
        print(f"latent z{k + 1}: {said}, within the layers {within(latents[:, k], thickness, layer):+.3f}")
    one_fold = encoding.symmetry[found] == 1
    for number in np.unique(layer[one_fold]):
        mine = one_fold & (layer == number)
        if mine.sum() > 20:
            vector = np.exp(1j * (encoding.angle[found][mine] - np.radians(TURN))).mean()
            said = f"{np.degrees(np.angle(vector)):+.1f}° to the scan-free lattice, resultant {abs(vector):.3f}, {mine.sum()} columns"
            print(f"angle in layer {number}: {said}")
    turned(options.seed)
    picture(analysis, encoding, (first, last), options.out)


def along_principal_axes(encoding: Encoding) -> Encoding:
    """Return the encoding with latents along their principal axes: the prior fixes them up to a rotation only."""
    latents = encoding.latents[encoding.inside]
    middle = latents.mean(axis=0)
    _, _, axes = np.linalg.svd(latents - middle, full_matrices=False)
    return replace(encoding, latents=(encoding.latents - middle) @ axes.T)


def scene(seed: int, settings: dict[str, object]) -> SimulatedFrame:
    """Return one frame of the recipe; the same seed is the same specimen."""
    return next(draw_frames(ROOT / "datasets" / "sr3fe2o7.toml", 1, seed, {**SETTINGS, **settings}))


def stack(frame: SimulatedFrame) -> Frames:
    """Return a simulated frame as an input."""
    return Frames(frame.image[None], frame.pixel_size, "user", "simulated Sr3Fe2O7")


def relative_thickness(frame: SimulatedFrame) -> np.ndarray:
    """Return (n,) each column's electrons over the median of its species."""
    medians = np.array([np.median(frame.counts[frame.species == kind]) for kind in range(len(frame.classes))])
    return np.asarray(frame.counts / medians[frame.species])


def layers(frame: SimulatedFrame, turn_deg: float) -> np.ndarray:
    """Return (n,) the layer within half a cell along c that each column belongs to, counted along c."""
    angle = np.radians(turn_deg)
    up, right = -frame.yx[:, 0], frame.yx[:, 1]
    axes = np.stack([np.cos(angle) * right + np.sin(angle) * up, np.cos(angle) * up - np.sin(angle) * right]) * frame.pixel_size
    heights = [np.histogram(axis % BLOCK, bins=60, range=(0, BLOCK))[0] for axis in axes]
    axis = axes[int(np.argmax([(height**2.0).sum() for height in heights]))] % BLOCK
    gap = np.sort(axis)
    widest = int(np.argmax(np.diff(np.append(gap, gap[0] + BLOCK))))
    along = (axis - gap[(widest + 1) % len(gap)]) % BLOCK
    order = np.argsort(along)
    number = np.zeros(len(along), dtype=int)
    number[order] = np.concatenate([[0], np.cumsum(np.diff(along[order]) > 0.8)])
    return number


def between(values: np.ndarray, groups: np.ndarray) -> float:
    """Return the share of the variance of `values` that lies between groups."""
    means = np.array([values[groups == group].mean() for group in range(groups.max() + 1)])
    return float(means[groups].var() / values.var())


def within(values: np.ndarray, facts: np.ndarray, groups: np.ndarray) -> float:
    """Return the correlation of `values` with `facts` once the means of the groups are taken out of both."""
    pairs = []
    for array in (values, facts):
        means = np.array([array[groups == group].mean() for group in range(groups.max() + 1)])
        pairs.append(array - means[groups])
    return float(np.corrcoef(*pairs)[0, 1])


def turned(seed: int) -> None:
    """Print errors and z-scores of angle differences between views of one scene at known scan rotations, by the zoo's encoder."""
    encoder, views = Encoder(Bundle.load(resolve("rvae-sr3fe2o7"))), []
    for turn in TURNS:
        frame = scene(seed + 1, {"frame.rotation_deg": turn, "specimen.thickness_gradient": 0.0, "specimen.displacement": 0.0})
        analysis = Analysis(stack(frame), (Columns.at(frame.yx, pixel_size=frame.pixel_size),), TRUTH)
        pieces = cutting.subimages(analysis, encoder.spec.window_angstrom / frame.pixel_size, encoder.spec.window_px)
        views.append((frame, encoder.encode(pieces)))
    print(f"angle differences by {encoder.id.id}:")
    (reference, here), centre = views[0], (SETTINGS["frame.size_px"] - 1) / 2
    for turn, (frame, there) in zip(TURNS[1:], views[1:], strict=True):
        angle = np.radians(turn)
        rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        pairs = match(frame.yx, (reference.yx - centre) @ rotation + centre, 0.5)
        kept = here.inside[pairs.truth] & there.inside[pairs.found]
        i, j = pairs.found[kept], pairs.truth[kept]
        same = there.symmetry[i] == here.symmetry[j]
        i, j = i[same], j[same]
        error = wrap(there.angle[i] - here.angle[j] - angle, here.symmetry[j])
        z = error / np.hypot(there.angle_sigma[i], here.angle_sigma[j])
        middle, typical, robust = np.degrees(np.median(error)), np.degrees(np.median(np.abs(error))), 1.4826 * np.median(np.abs(z))
        print(f"turned by {turn:g}°: {len(i)} columns ({(~same).sum()} more changed their symmetry); median error {middle:+.3f}°, median")
        print(f"    |error| {typical:.3f}°, error over stated error: spread {z.std():.2f}, robust {robust:.2f}")


def maps_figure(field: Field, encoding: Encoding, titles: Sequence[str]) -> Figure:
    """Return the frame, its angles and its latents as bare maps side by side; one title for each, the frame's and the angle's first."""
    side, gap, head = 3.6, 0.12, 0.42
    height, width = field.image.shape
    tall = side * height / width
    figure = Figure(figsize=(len(titles) * (side + gap) + gap, tall + head + gap), dpi=style.DPI, facecolor=style.PAPER)
    FigureCanvasAgg(figure)
    wide, high = figure.get_figwidth(), figure.get_figheight()
    for k, title in enumerate(titles):
        axes = figure.add_axes(((gap + k * (side + gap)) / wide, gap / high, side / wide, tall / high))
        axes.set_title(title, color=style.INK, fontsize=12)
        if k == 0:
            style.show_image(axes, field.image)
        else:
            colours = figures.angle_colours(encoding)[0] if k == 1 else figures.latent_colours(encoding.latents[:, k - 2])
            figures.paint(axes, field, colours)
        style.bare(axes)
        axes.set(xlim=(-0.5, width - 0.5), ylim=(height - 0.5, -0.5))
        if k == 0:
            style.scale_bar(axes, width, field.pixel_size)
    return figure


def picture(analysis: Analysis, encoding: Encoding, chosen: tuple[int, int], path: Path) -> None:
    """Draw frame, angle, the latent of the layers and that of the thickness side by side."""
    import matplotlib

    ordered = replace(encoding, latents=encoding.latents[:, list(chosen)])
    with matplotlib.rc_context(style.FONT):
        field = field_of(analysis)
        figure = maps_figure(field, ordered, ("Frame", "Angle", "First latent: the layers", "Another latent: the thickness"))
        picture = render.save_png(figure, path)
    width = 1500
    picture = picture.resize((width, round(picture.height * width / picture.width)), Image.Resampling.LANCZOS)
    picture.quantize(160).save(path, optimize=True)
    print(f"{path}: {picture.width} x {picture.height}, {path.stat().st_size / 1e3:.0f} kB")


if __name__ == "__main__":
    main()
