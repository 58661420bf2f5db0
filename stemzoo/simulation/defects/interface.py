"""A coherent interface with another crystal."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from scipy.special import erf

from stemzoo.errors import RecipeError
from stemzoo.simulation.lattice import Placed
from stemzoo.simulation.scene import Scene, without_collisions


def interface(
    scene: Scene,
    rng: np.random.Generator,
    *,
    phase: str,
    across: tuple[float, ...],
    along: tuple[float, ...],
    at: float = 0.25,
    mixing: float = 2.0,
    thickness: float = math.inf,
) -> Scene:
    """Continue the crystal beyond a plane as `phase`, one of the recipe's `[phases.…]`, strained to match along the interface.

    Args:
        across, along: crystal directions, of the same indices in both crystals, across the interface and in it.
        at: where in the period of `across` the plane lies, as a fraction of it.
        mixing: width of the intermixed zone [Å]: across it the contents of columns of the same species go over as the error function.
        thickness: of the layer of the other phase [Å], after which the first crystal goes on; infinite: it does not.
    """
    if phase not in scene.phases:
        raise RecipeError(f"defect 'interface' wants the phase {phase!r}; this recipe has {', '.join(scene.phases) or 'none'}")
    own = scene.placed("interface")
    other, shear = _matched(own, scene.phases[phase], across, along)
    normal = _normal(own.vector(across), own.vector(along))
    period = float(own.vector(across) @ normal)
    plane = (rng.integers(-1, 2) + at) * period + round(rng.uniform(-0.25, 0.25) * scene.extent / period) * period
    start = own.origin + plane * normal
    layer = scene.refilled(replace(other, origin=np.zeros(2)))
    layer = replace(layer, yx=layer.yx @ shear)
    other_period = float(other.vector(across) @ shear @ normal)
    layer = replace(layer, yx=layer.yx + start - at * other_period * normal)
    end = max(round(thickness / other_period), 1) * other_period if math.isfinite(thickness) else math.inf
    depth, layer_depth = (scene.yx - start) @ normal, (layer.yx - start) @ normal
    before = scene.chosen(depth < 0)
    middle = layer.chosen((layer_depth >= 0) & (layer_depth < end))
    whole = before.joined(middle)
    if math.isfinite(end):
        after = scene.chosen(depth >= 0)
        whole = whole.joined(replace(after, yx=after.yx + end * normal))
    whole = _mixed(whole, (whole.yx - start) @ normal, (scene, middle), end, mixing)
    return without_collisions(whole)


def _normal(across: np.ndarray, along: np.ndarray) -> np.ndarray:
    """The unit vector across `along`, on the side of `across`."""
    normal = np.array([-along[1], along[0]]) / np.linalg.norm(along)
    return np.asarray(normal * np.sign(normal @ across))


def _matched(own: Placed, other: Placed, across: tuple[float, ...], along: tuple[float, ...]) -> tuple[Placed, np.ndarray]:
    """The other crystal turned so that `along` agrees, and the (2, 2) stretch along the interface that makes the periods agree."""
    a, b = own.vector(along), other.vector(along)
    angle = math.atan2(-a[0], a[1]) - math.atan2(-b[0], b[1])
    turned = other.turned(angle)
    hands = [np.linalg.det(np.stack([crystal.vector(across), crystal.vector(along)])) for crystal in (own, turned)]
    if hands[0] * hands[1] < 0:
        turned = other.turned(angle + math.pi)
    unit = a / np.linalg.norm(a)
    ratio = float(np.linalg.norm(a) / np.linalg.norm(b))
    return turned, np.eye(2) + (ratio - 1) * np.outer(unit, unit)


def _mixed(scene: Scene, depth: np.ndarray, sides: tuple[Scene, Scene], end: float, mixing: float) -> Scene:
    """Contents of each species go over from those of the first crystal to those of the second across the interfaces."""
    if mixing <= 0:
        return scene
    share = (1 + erf(depth / mixing)) / 2
    if math.isfinite(end):
        share = share - (1 + erf((depth - end) / mixing)) / 2
    atoms = scene.atoms.copy()
    for species in range(len(scene.classes)):
        contents = [side.atoms[side.species == species] for side in sides]
        if not all(len(content) for content in contents):
            continue
        mine = scene.species == species
        first, second = (np.median(content, axis=0) for content in contents)
        atoms[mine] = (1 - share[mine, None]) * first + share[mine, None] * second
    return replace(scene, atoms=atoms)
