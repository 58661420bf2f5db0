"""A crystal nobody prepared: CIF and zone axis to a recipe that can be simulated at once and edited.

Called by `stemzoo data recipe`.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np

from stemzoo.errors import OutputError, StructureError
from stemzoo.io.outputs import new_file
from stemzoo.simulation.cif import read_cif
from stemzoo.simulation.elements import atomic_number
from stemzoo.simulation.intensity import cross_section
from stemzoo.simulation.loading import load
from stemzoo.simulation.projection import Projection, project

VISIBLE_FRACTION = 0.1
"""Columns fainter than this share of the brightest are no truth."""

LOST_FRACTION = 0.3
"""Up to this share a column in the flank of a brighter one is no truth either."""

LOWEST_EXPONENT = 1.6
"""Of the recipe's range, where light columns are brightest."""

PEAK_SIGMA = 0.5
"""Width of a column as a common probe with its source shows it [Å]."""

CLEAREST = 1.0
"""Columns nearer than this [Å] cannot be told apart by today's probes: a recipe is drafted, with a warning."""

TEMPLATE = """\
# Drafted from {cif} along [{zone}]; every value may be edited, a pair [low, high] is drawn from anew for each frame.
schema_version = 1
material = "{material}"
title = "{material} along [{zone}]"
source = "{cif}"
seed = 0

# Columns seen along this axis, brightest first:
{table}
[structure]
cif = "{cif}"
zone_axis = [{zone}]
visible_fraction = {visible}
species = {{ {species} }}

[frame]
size_px = 384
sampling = [{low:.3f}, {high:.3f}]
rotation_deg = [0.0, 360.0]

[optics]
energy_kev = 200.0
convergence_mrad = [20.0, 30.0]
defocus_nm = [-4.0, 4.0]
source_fwhm = [0.6, 1.0]

[specimen]
thickness_nm = [5.0, 40.0]
displacement = [0.0, 0.06]

[dose]
counts_per_column = [50.0, 3000.0]

[[defects]]
kind = "strain"
amplitude = [0.0, 0.15]
probability = 0.5

[[defects]]
kind = "vacancy"
fraction = [0.0, 0.03]
probability = 0.3
"""


def draft_recipe(cif: str | Path, zone_axis: tuple[int, int, int], out: str | Path) -> list[str]:
    """Write a recipe for the crystal in `cif` seen along `zone_axis` to `out`, and return what the author should know, a sentence each.

    Classes are the heaviest elements of the visible columns; the sampling suits the shortest distance between them.
    A draft is there to be edited: what differs from it at `out` already is not overwritten.
    Raises: StructureError for the CIF or the axis; OutputError if `out` holds another recipe or cannot be written.
    """
    cif, out = Path(cif), Path(out)
    crystal = read_cif(cif)
    seen = project(crystal, zone_axis)
    weights = _weights(seen, 1.7)
    fraction = _visible_fraction(seen, _weights(seen, LOWEST_EXPONENT))
    visible = weights >= fraction * weights.max()
    heaviest = list(dict.fromkeys(seen.atoms[i][0][0] for i in np.argsort(-weights) if visible[i]))
    spacing = _shortest_spacing(seen, visible)
    notices = []
    if spacing < CLEAREST:
        notices.append(f"the nearest visible columns lie {spacing:.2f} Å apart, too close for most probes; try another zone axis")
    hidden = int((~visible).sum())
    if hidden:
        notices.append(
            f"{hidden} of {len(visible)} columns a cell are fainter than {fraction:.0%} of the brightest: rendered, but no truth"
            + (
                "; brighter neighbours outshine some: lower visible_fraction if your probe shows them"
                if fraction > VISIBLE_FRACTION
                else ""
            )
        )
    kinds = Counter((round(float(weight / weights.max()), 2), _content(atoms)) for weight, atoms in zip(weights, seen.atoms, strict=True))
    fine = min(0.14, spacing / 7)
    text = TEMPLATE.format(
        cif=os.path.relpath(cif.resolve(), out.resolve().parent).replace(os.sep, "/"),
        zone=", ".join(str(i) for i in zone_axis),
        material=_formula(crystal.formula_counts()),
        table="".join(
            f"#   {n:3d} × {content:16s} {share:4.0%}{'' if share >= fraction else '   not seen'}\n"
            for (share, content), n in sorted(kinds.items(), reverse=True)
        ),
        visible=f"{fraction:.2f}",
        species=", ".join(f'{element} = "{element}"' for element in heaviest),
        low=fine,
        high=min(2 * fine, spacing / 3.5),
    )
    try:
        if out.exists() and out.read_bytes() != text.encode():
            raise OutputError(f"{out}: holds another recipe, or this draft as it was edited; name another --out, or delete it first")
        out.parent.mkdir(parents=True, exist_ok=True)
        with new_file(out) as part:
            part.write_text(text, encoding="utf-8")
    except OSError as failure:
        raise OutputError(f"{out}: cannot be written ({failure.strerror}); choose another --out") from None
    load(out)
    return notices


def _weights(seen: Projection, exponent: float) -> np.ndarray:
    """Return how brightly each column scatters, as Z to the `exponent`."""
    return np.array([sum(n * cross_section(atomic_number(e), exponent, 200.0) for e, n in column) for column in seen.atoms])


def _visible_fraction(seen: Projection, weights: np.ndarray) -> float:
    """Return the share of the brightest column below which a column is no truth.

    A light column in the flank of a heavy one makes no maximum of its own: towards a brighter neighbour the intensity only rises. What no
    one can see must not be asked of a network, so the share is raised above such columns, as far as `LOST_FRACTION`.
    """
    share = weights / weights.max()
    cells = np.array([[i, j] for i in range(-2, 3) for j in range(-2, 3)]) @ seen.lattice
    everywhere, brightness = (seen.yx[None] + cells[:, None]).reshape(-1, 2), np.tile(share, len(cells))
    fraction = VISIBLE_FRACTION
    for here, own in zip(seen.yx, share, strict=True):
        if not fraction <= own < LOST_FRACTION:
            continue
        near = everywhere[(brightness > own) & (np.linalg.norm(everywhere - here, axis=1) < 5 * PEAK_SIGMA)]
        way = here + np.linspace(0, 1, 21)[:, None, None] * (near - here)
        square = ((way[:, :, None] - everywhere) ** 2).sum(axis=-1)
        intensity = (brightness * np.exp(-square / (2 * PEAK_SIGMA**2))).sum(axis=-1)
        if (intensity[:11].min(axis=0) > 0.97 * intensity[0]).any():
            fraction = float(np.ceil((own + 1e-6) * 100) / 100)
    return fraction


def _shortest_spacing(seen: Projection, visible: np.ndarray) -> float:
    if not visible.any():
        raise StructureError("no column of this projection can be seen")
    yx = seen.yx[visible]
    cells = np.array([[i, j] for i in range(-2, 3) for j in range(-2, 3)]) @ seen.lattice
    distance = np.linalg.norm(yx[:, None, None] - yx[None, :, None] - cells[None, None], axis=-1)
    return float(distance[distance > 1e-3].min())


def _formula(counts: dict[str, float]) -> str:
    """Return the formula in the smallest whole numbers, or relative to the rarest element where occupancies allow none."""
    ratios = {element: n / min(counts.values()) for element, n in counts.items()}
    whole = next((k for k in range(1, 13) if all(abs(k * n - round(k * n)) < 0.02 for n in ratios.values())), 1)
    return "".join(f"{element}{'' if abs(whole * n - 1) < 0.02 else f'{whole * n:.3g}'}" for element, n in ratios.items())


def _content(atoms: tuple[tuple[str, float], ...]) -> str:
    return " ".join(f"{element}{number:.3g}" for element, number in atoms)
