"""A fault in a plane of the crystal: a stacking fault, an antiphase boundary, or a layer too many or too few."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from stemzoo.simulation.scene import Scene, without_collisions


def planar_fault(
    scene: Scene,
    rng: np.random.Generator,
    *,
    across: tuple[float, ...],
    along: tuple[float, ...],
    displacement: tuple[float, ...],
    at: float = 0.0,
    number: float = 1.0,
) -> Scene:
    """Displace the crystal beyond a plane by the crystal vector `displacement`.

    Both crystals go on up to the fault: where `displacement` opens a gap it is filled by the crystal before the plane, a layer too many;
    where it closes in, what lies between is gone, a layer too few.

    Args:
        across, along: crystal directions as seen, the first across the faults, the second in them.
        at: where in the period of `across` the plane lies, as a fraction of it.
        number: about how many such faults there are, at different periods; at least one.
    """
    crystal = scene.placed("planar_fault")
    axes = np.stack([crystal.vector(across), crystal.vector(along)])
    step = crystal.vector(displacement)
    to_fraction = np.linalg.inv(axes)
    opened = float((step @ to_fraction)[0])
    reach = float(np.abs(to_fraction[:, 0]).sum()) * scene.extent / 2
    centre = float((-crystal.origin @ to_fraction)[0])
    periods = np.arange(np.ceil(centre - reach - at), np.floor(centre + reach - at) + 1)
    if not len(periods):
        return scene
    chosen = rng.choice(periods, min(max(round(number), 1), len(periods)), replace=False)
    for plane in np.sort(chosen)[::-1] + at:  # from the far side, so that each plane is still where it was
        fraction = ((scene.yx - crystal.origin) @ to_fraction)[:, 0]
        before = scene.chosen(fraction < plane + max(opened, 0.0) - 1e-6)
        beyond = scene.chosen(fraction >= plane + max(-opened, 0.0) - 1e-6)
        scene = before.joined(replace(beyond, yx=beyond.yx + step))
    return without_collisions(scene)
