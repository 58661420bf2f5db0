"""Hold simulated images against multislice with frozen phonons (abTEM): contrast, widths, radial profiles, for crystals of the datasets.

    pip install abtem                                                # a tool for maintainers; the package never imports it
    python scripts/validate_simulation.py --work runs/multislice     # some minutes a crystal on a quiet core; kept in --work

Writes the table as Markdown to stdout (multislice / here), and `docs/multislice.png`. Multislice images are kept in --work, not made again.
Both sides have the same aberration-free probe, detector, cell and thermal displacements; a source of 0.8 Å (FWHM) blurs both.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from stemzoo.simulation.crystal import Crystal
from stemzoo.simulation.intensity import Contrast
from stemzoo.simulation.interpolate import bilinear
from stemzoo.simulation.probe import Optics
from stemzoo.simulation.projection import project
from stemzoo.simulation.render import render

ROOT = Path(__file__).parents[1]


@dataclass(frozen=True)
class Case:
    """One crystal under one beam, in a rectangular cell seen along z.

    Args:
        recipe: of datasets/. cell: (3,) Å. sites: (element, fractional x, y, z); the image mirrors in x = 0 and y = 0.
        columns: name -> fractional (x, y) of the columns that are compared. thermal: element -> rms displacement along an axis [Å].
        repeat: cells in x and y that hold the probe. gpts: of the potential. slices: a cell in z.
        cells: in z. planes: cells between the thicknesses that are looked at.
    """

    name: str
    recipe: str
    cell: tuple[float, float, float]
    sites: tuple[tuple[str, float, float, float], ...]
    columns: dict[str, tuple[float, float]]
    thermal: dict[str, float]
    repeat: tuple[int, int]
    gpts: tuple[int, int]
    cells: int
    planes: int
    slices: int = 2
    energy_kev: float = 200.0
    convergence_mrad: float = 25.0
    inner_mrad: float = 80.0
    outer_mrad: float = 130.0
    configurations: int = 2

    @property
    def scanned(self) -> tuple[float, float]:
        """Lengths in x and y [Å] that are scanned: mirrors in x = 0 and y = 0 give the rest; MoS2 has the latter alone."""
        return self.cell[0] * (1 if self.recipe == "mos2" else 0.5), self.cell[1] / 2

    @property
    def fine(self) -> tuple[int, int]:
        """Shape (ny, nx) of the grid of about `FINE` on which both sides are compared."""
        ny, nx = (2 * int(np.ceil(length / FINE / 2)) for length in self.cell[1::-1])
        return ny, nx


_A, _SI, _AU, _MO = 3.905, 5.431, 4.078, 3.160
CASES = (
    Case(
        "MoS2 [001], one layer, 60 kV",
        "mos2",
        (3**0.5 * _MO, _MO, 12.0),
        (
            *(("Mo", x, y, 0.5) for x, y in ((1 / 3, 0.0), (5 / 6, 0.5))),
            *(("S", x, y, z) for x, y in ((2 / 3, 0.0), (1 / 6, 0.5)) for z in (0.5 - 0.13, 0.5 + 0.13)),
        ),
        {"Mo": (1 / 3, 0.0), "S2": (2 / 3, 0.0)},
        {"Mo": 0.065, "S": 0.07},
        (3, 5),
        (240, 240),
        1,
        1,
        slices=6,
        energy_kev=60.0,
        convergence_mrad=30.0,
        configurations=4,
    ),
    Case(
        "SrTiO3 [100]",
        "srtio3",
        (_A, _A, _A),
        (("Sr", 0, 0, 0), ("Ti", 0.5, 0.5, 0.5), ("O", 0.5, 0.5, 0), ("O", 0.5, 0, 0.5), ("O", 0, 0.5, 0.5)),
        {"Sr": (0, 0), "Ti-O": (0.5, 0.5), "O": (0.5, 0.0)},
        {"Sr": 0.085, "Ti": 0.075, "O": 0.085},
        (4, 4),
        (256, 256),
        51,
        6,
    ),
    Case(
        "Au [110]",
        "gold_110",
        (_AU, _AU / 2**0.5, _AU / 2**0.5),
        (("Au", 0, 0, 0), ("Au", 0.5, 0.5, 0.5)),
        {"Au": (0, 0)},
        {"Au": 0.085},
        (4, 5),
        (256, 240),
        36,
        6,
    ),
    Case(
        "Si [110]",
        "silicon",
        (_SI, _SI / 2**0.5, _SI / 2**0.5),
        (("Si", 0.875, 0, 0), ("Si", 0.125, 0, 0.5), ("Si", 0.375, 0.5, 0.5), ("Si", 0.625, 0.5, 0)),
        {"Si": (0.125, 0)},
        {"Si": 0.076},
        (3, 4),
        (256, 240),
        42,
        7,
    ),
)


def multislice(case: Case, work: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return images (planes, ny, nx) over a quarter of the cell, or its half for MoS2, and their depths [Å].

    They are the mean over configurations of the trembling atoms, each of which is made unless it lies in `work`.
    """
    images = []
    for configuration in range(case.configurations):
        path = work / f"{case.recipe}_{configuration}.npz"
        if not path.exists():
            work.mkdir(parents=True, exist_ok=True)
            image, depth = _abtem(case, configuration)
            np.savez(path, image=image, depth=depth)
        with np.load(path) as kept:
            images.append(kept["image"])
            depth = kept["depth"]
    return np.mean(images, axis=0), depth


def _abtem(case: Case, configuration: int) -> tuple[np.ndarray, np.ndarray]:
    import abtem
    import ase
    import dask

    abtem.config.set({"fft": "fftw", "fftw.threads": 1, "local_diagnostics.progress_bar": False})
    dask.config.set(scheduler="single-threaded")
    cell = np.array(case.cell)
    sites = [xyz for _, *xyz in case.sites]
    atoms = ase.Atoms([e for e, *_ in case.sites], scaled_positions=sites, cell=cell, pbc=True) * (*case.repeat, case.cells)
    phonons = abtem.FrozenPhonons(atoms, 1, case.thermal, seed=100 + configuration)
    planes = case.planes * case.slices if case.cells > 1 else None
    potential = abtem.Potential(phonons, gpts=case.gpts, slice_thickness=cell[2] / case.slices, exit_planes=planes)
    probe = abtem.Probe(energy=case.energy_kev * 1e3, semiangle_cutoff=case.convergence_mrad)
    probe.grid.match(potential)
    gpts = scan_points(case)
    scan = abtem.GridScan(start=(0, 0), end=case.scanned, gpts=gpts, endpoint=True)
    detector = abtem.AnnularDetector(inner=case.inner_mrad, outer=case.outer_mrad)
    measured: Any = probe.scan(potential, scan=scan, detectors=detector).compute()
    image = np.swapaxes(np.asarray(measured.array).reshape(-1, *gpts), 1, 2)
    if planes is None:
        return image[-1:], np.array([0.0])
    return image[1:], np.arange(1, len(image)) * case.planes * cell[2]  # the first plane is the entrance


def scan_points(case: Case) -> tuple[int, int]:
    """Probe positions in x and y, at most 0.29 Å apart, both ends of the half cell among them."""
    nx, ny = (int(np.ceil(length / 0.29)) + 1 for length in case.scanned)
    return nx, ny


SOURCE_FWHM = 0.8
EXPONENT = 1.8
"""The middle of the range that recipes draw from."""
FAINT = 0.1
"""Columns fainter than this share of the brightest are no truth, and not compared."""
FINE = 0.05
"""Step of the grid [Å] on which both sides are compared."""


@dataclass(frozen=True)
class Peak:
    """One column's peak: height above the lowest point of the cell and that point [share of the beam], sigma of a Gaussian fit [Å], and the
    mean over circles of `RADII` about it."""

    height: float
    background: float
    sigma: float
    profile: np.ndarray


RADII = np.arange(0.0, 1.9, 0.1)


def unfolded(case: Case, image: np.ndarray) -> np.ndarray:
    """(ny, nx) over the whole cell, mirrored and blurred by the source, on a grid of about `FINE`; row y, column x."""
    rows = np.concatenate([image, image[-2:0:-1]])
    whole = rows[:, :-1] if case.scanned[0] == case.cell[0] else np.concatenate([rows, rows[:, -2:0:-1]], axis=1)
    shape = case.fine
    spectrum = np.fft.fftshift(np.fft.fft2(whole))
    fy, fx = (np.fft.fftshift(np.fft.fftfreq(n, length / n)) for n, length in zip(whole.shape, case.cell[1::-1], strict=True))
    spectrum *= np.exp(-2 * (np.pi * SOURCE_FWHM / 2.3548) ** 2 * (fy[:, None] ** 2 + fx**2))
    wide = np.zeros(shape, dtype=complex)
    top, left = (shape[0] // 2 - whole.shape[0] // 2, shape[1] // 2 - whole.shape[1] // 2)
    wide[top : top + whole.shape[0], left : left + whole.shape[1]] = spectrum
    return np.asarray(np.fft.ifft2(np.fft.ifftshift(wide)).real * np.prod(shape) / whole.size)


def modelled(case: Case, depth: float, exponent: float) -> np.ndarray:
    """The package's image of the same cell on the same grid as `unfolded`."""
    crystal = Crystal(
        np.diag(case.cell),
        tuple(e for e, *_ in case.sites),
        np.array([xyz for _, *xyz in case.sites], dtype=np.float64),
        np.ones(len(case.sites)),
        case.name,
        np.array([case.thermal[e] for e, *_ in case.sites]),
    )
    seen = project(crystal, (0, 0, 1))
    elements = tuple(sorted(case.thermal))
    atoms = np.array([[dict(column).get(e, 0.0) for e in elements] for column in seen.atoms])
    contrast = Contrast(exponent, case.energy_kev, case.inner_mrad, case.outer_mrad)
    repeats = np.full(len(atoms), max(depth / case.cell[2], 1.0))
    repeat = case.cell[2] if depth else 0.0
    weight = contrast.weights(atoms, elements, repeats, repeat)
    haze = contrast.haze(atoms, elements, repeats, repeat).sum() / abs(float(np.linalg.det(seen.lattice)))
    width = np.hypot(seen.thermal, contrast.spread(atoms, elements, repeats, repeat))
    to_cell = seen.axes[:2]  # x and y of the cell as the projection shows them
    xy = seen.yx @ np.linalg.inv(to_cell)
    reach = 4
    cells = np.stack(np.meshgrid(*2 * [np.arange(-reach, reach + 1)], indexing="ij"), -1).reshape(-1, 2)
    every = (xy[None] + cells[:, None]).reshape(-1, 2) * case.cell[:2]
    size, px = 256, 0.1
    start = size // 2 - np.array(case.cell[1::-1]) / 2 / px
    optics = Optics(case.energy_kev, case.convergence_mrad, source_fwhm=SOURCE_FWHM)
    image = render(every[:, ::-1] / px + start, np.tile(weight, len(cells)), np.tile(width, len(cells)), (size, size), px, optics)
    rows, cols = (start[k] + np.arange(n) * case.cell[1 - k] / n / px for k, n in enumerate(case.fine))
    return np.asarray(bilinear(image, rows, cols) + haze)


def peak(case: Case, image: np.ndarray, column: str) -> Peak:
    """Measure one column of a periodic image of the cell."""
    ny, nx = image.shape
    x0, y0 = (share * length for share, length in zip(case.columns[column], case.cell[:2], strict=True))
    y, x = (np.arange(n) * length / n for n, length in ((ny, case.cell[1]), (nx, case.cell[0])))
    dy = (y - y0 + case.cell[1] / 2) % case.cell[1] - case.cell[1] / 2
    dx = (x - x0 + case.cell[0] / 2) % case.cell[0] - case.cell[0] / 2
    distance = np.hypot(dy[:, None], dx)
    low = float(image.min())
    top = float(image[distance < 0.08].mean())
    profile = np.array([image[np.abs(distance - r) < 0.06].mean() for r in RADII])
    near = distance < 0.55
    slope = np.polyfit(distance[near] ** 2, np.log(np.maximum(image[near] - low, 1e-9 * top)), 1)[0]
    return Peak(top - low, low, float(np.sqrt(-0.5 / min(slope, -1e-6))), (profile - low) / (top - low))


def compared(case: Case, image: np.ndarray, depth: np.ndarray) -> list[str]:
    """Lines of the Markdown table: one for each column and each of up to three thicknesses."""
    lines = []
    for plane in sorted({0, len(depth) // 2, len(depth) - 1}):
        there, here = unfolded(case, image[plane]), modelled(case, float(depth[plane]), EXPONENT)
        for column in case.columns:
            seen, ours = peak(case, there, column), peak(case, here, column)
            if seen.height < FAINT * max(peak(case, there, other).height for other in case.columns):
                continue
            off = float(np.sqrt(np.mean((seen.profile - ours.profile)[RADII <= 1.0] ** 2)))
            values = [
                (seen.height / there.mean(), ours.height / here.mean(), 2),
                (seen.background / there.mean(), ours.background / here.mean(), 2),
                (seen.sigma, ours.sigma, 2),
            ]
            thick = f"{depth[plane] / 10:.1f} nm" if depth[plane] else "one layer"
            pairs = " | ".join(f"{x:.{digits}f} / {y:.{digits}f}" for x, y, digits in values)
            lines.append(f"| {case.name} | {thick} | {column} | {pairs} | {off:.2f} |")
    return lines


def draw(cases: list[tuple[Case, np.ndarray, np.ndarray]], path: Path) -> None:
    """Profiles about the brightest column of each crystal, in units of the image's mean, thin and thick."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 2.7), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (case, image, depth) in zip(figure.subplots(1, len(cases)), cases, strict=True):
        column = next(iter(case.columns))
        for plane, colour in ((0, "#1f77b4"), (len(depth) - 1, "#d62728"))[: len(depth)]:
            label = f"{depth[plane] / 10:.0f} nm" if depth[plane] else "one layer"
            there, here = unfolded(case, image[plane]), modelled(case, float(depth[plane]), EXPONENT)
            for whole, style in ((there, "o"), (here, "-")):
                found = peak(case, whole, column)
                profile = (found.profile * found.height + found.background) / whole.mean()
                axis.plot(RADII, profile, style, color=colour, markersize=3, label=label if style == "-" else None)
        axis.set_title(f"{case.name.split(',')[0]}, {column}", fontsize=9)
        axis.set_xlabel("distance [Å]", fontsize=8)
        axis.set_ylim(0)
        axis.tick_params(labelsize=7)
        axis.legend(fontsize=7, frameon=False)
    figure.supylabel("intensity / mean", fontsize=8)
    figure.savefig(path, dpi=90)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--only", choices=[case.recipe for case in CASES], help="make one crystal's multislice images, compare nothing")
    options = parser.parse_args()
    made = [(case, *multislice(case, options.work)) for case in CASES if options.only in (None, case.recipe)]
    if options.only is None:
        print("| crystal | thickness | column | peak / mean | background / mean | sigma [Å] | profile, rms to 1 Å |")
        print("|---|---|---|---|---|---|---|")
        print("\n".join(line for one in made for line in compared(*one)))
        draw(made, ROOT / "docs" / "multislice.png")


if __name__ == "__main__":
    main()
