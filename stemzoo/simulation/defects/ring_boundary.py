"""A grain boundary of a honeycomb: pentagons and heptagons, no dangling bonds."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.spatial import cKDTree

from stemzoo.simulation.network import atoms_of_rings, relaxed, settled
from stemzoo.simulation.scene import PRISTINE, SLACK, Scene


def ring_boundary(scene: Scene, rng: np.random.Generator, *, misorientation_deg: float = 20.0) -> Scene:
    """Join two grains of a honeycomb, turned by `misorientation_deg`, along a straight line.

    The centres of the rings of both grains are laid out, settled near the line and taken apart into rings; where a centre has five or seven
    neighbours there is a pentagon or a heptagon. Only for a crystal of one species with its rings about the lattice points, as graphene
    with atoms at (1/3, 2/3) and (2/3, 1/3). Anything done to the scene before is lost.
    """
    crystal = scene.placed("ring_boundary")
    spacing = float(np.linalg.norm(crystal.lattice[0]))
    rings = replace(crystal, cell=replace(crystal.cell, yx=np.zeros((1, 2))))
    other = rings.turned(math.radians(misorientation_deg), origin=rng.random(2) @ rings.lattice)
    direction = rng.uniform(0, 2 * np.pi)
    normal = np.array([math.cos(direction), math.sin(direction)])
    place = rng.uniform(-0.25, 0.25) * scene.extent
    reach = scene.extent / 2 + SLACK
    first, second = rings.fill(reach)[0], other.fill(reach)[0]
    centres = np.concatenate([first[first @ normal < place], second[second @ normal >= place]])
    pairs = cKDTree(centres).query_pairs(0.6 * spacing, output_type="ndarray")
    centres = np.delete(centres, np.unique(pairs[:, 1]), axis=0)
    centres = settled(centres, np.abs(centres @ normal - place) < 2.5 * spacing, spacing)
    yx, bonds = atoms_of_rings(centres)
    inside = (np.abs(yx) < reach - 2 * spacing).all(axis=1)
    yx = relaxed(yx, bonds, inside & (np.abs(yx @ normal - place) < 4 * spacing), spacing / 3**0.5)[inside]
    return replace(
        scene,
        yx=yx,
        atoms=np.repeat(crystal.cell.atoms[:1], len(yx), axis=0),
        repeats=np.ones(len(yx)),
        species=np.full(len(yx), crystal.cell.species[0]),
        thermal=np.full(len(yx), crystal.cell.thermal[0]),
        home=np.full(len(yx), PRISTINE),
    )
