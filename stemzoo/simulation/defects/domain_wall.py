"""A wall between two polar domains."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from stemzoo.simulation.lattice import rotation
from stemzoo.simulation.scene import Scene


def domain_wall(
    scene: Scene,
    rng: np.random.Generator,
    *,
    shift: float,
    species: str,
    along: tuple[float, ...],
    wall: tuple[float, ...],
    turn_deg: float = 180.0,
    width: float = 10.0,
) -> Scene:
    """Displace one species by `shift` [Å] along [u, v, w] on one side of a wall, and along that direction turned by `turn_deg` on the
    other; both in the plane of the image.

    `wall` is a crystal direction in the wall, as seen; the wall passes the field somewhere, or now and then beside it. Between the domains
    the displacement goes as (1 − tanh(2s/`width`))/2 of one and (1 + tanh)/2 of the other, s [Å] being the distance from the wall: it
    vanishes in a 180° wall and turns in others.
    Source: the tanh profile of a Landau–Ginzburg wall; Cao & Cross, Phys. Rev. B 44 (1991) 5.
    """
    crystal = scene.placed("domain_wall")
    in_wall, first = crystal.direction(wall), crystal.direction(along)
    second = first @ rotation(math.radians(turn_deg))
    normal = np.array([-in_wall[1], in_wall[0]])
    depth = scene.yx @ normal - rng.uniform(-0.6, 0.6) * scene.extent
    beyond = (1 + np.tanh(2 * depth / width))[:, None] / 2
    moved = scene.yx + shift * ((1 - beyond) * first + beyond * second)
    return replace(scene, yx=np.where(scene.of(species)[:, None], moved, scene.yx))
