"""The fixed matrices of nets.polar, worked out from its grid alone: rebuilt with a network, never saved with it. Called by nets.polar."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from stemzoo.nets.mirror import parts, split_drawing, split_form, split_reading
from stemzoo.nets.polar_grid import PolarGrid

TURNS = 32  # angles on which the encoder compares a sub-image with its templates


def matrices(grid: PolarGrid) -> dict[str, Tensor]:
    """Return the fixed matrices by name: float32, and int64 for `…_columns`, which number coefficients."""
    ring, order = grid.ring_and_order
    inner, every, half = ring < grid.n_inner, np.arange(grid.n_orders), grid.size // 2
    turns = np.outer(every, np.arange(grid.n_angles) * 2 * np.pi / grid.n_angles)
    outer = np.arange(grid.n_inner, len(grid.radii_px))
    mask = grid.mask(grid.n_angles)
    weight = mask[outer] * (grid.area_px[outer] / grid.n_angles)[:, None]
    # (rings, orders, angles): the mask holds orders that are multiples of 4 alone, and is even
    fourfold = every[::4]
    phase = np.outer(fourfold, np.arange(grid.n_angles) * 2 * np.pi / grid.n_angles)
    harmonics = weight @ np.cos(phase).T * np.where(fourfold == 0, 1, 2) / grid.n_angles
    spectrum = [(harmonics[:, None] * wave.T).reshape(-1, len(fourfold)) for wave in (np.cos(phase), -np.sin(phase))]
    # from |offset|², right, down and 1 to six spectra: the prior's part of misfit, coupling and information
    known = np.zeros((4, 6, 2, grid.n_orders))
    for given, row, wave, m, sign in ((0, 0, 0, 0, 1), (1, 1, 0, 1, 1), (1, 2, 1, 1, -1), (2, 2, 0, 1, -1), (2, 1, 1, 1, -1)):
        known[given, row, wave, m] = sign
    known[3, 3:5, 0, 0] = 1
    blocks = parts(order)
    fixed = {
        "offset_prior": known.reshape(4, -1),
        "gradient": grid.gradient,
        "orders": every,
        "order_of": order,
        "ring_sum": (order[:, None] == every).astype(float),
        "waves": np.concatenate([np.cos(turns), np.sin(turns)]),
        "corner_values": grid.synthesis(grid.n_angles, outer)[np.tile(~inner, 2)],
        "corner_spectrum": np.concatenate(spectrum, axis=1),
        # what outer rings say in orders 0, 4, 8 …, and inner ones in order 0, to all orders; and how each of nets.polar.PAIRS counts
        "own_spectrum": np.vstack([np.kron(np.eye(2), np.eye(grid.n_orders)[fourfold]), np.eye(2 * grid.n_orders)[0]]),
        "cross_sign": np.array([-2.0, 1.0, 1.0])[:, None],
        "own_sign": np.array([1.0, -1.0, -1.0, 1.0, 1.0, 1.0])[:, None],
        "seen": np.tile(mask.mean(axis=1)[ring], 2),
        "moment": np.where(inner, np.sqrt(grid.area_px[ring]), 0),  # integrates a harmonic over the disc
    }
    columns: dict[str, np.ndarray] = {}
    for name, mine, turn in _comparison(grid):
        fixed[f"{name}_turns"], columns[f"{name}_columns"] = turn, np.concatenate([mine, half + mine])
        columns[f"{name}_rows"] = np.searchsorted(np.flatnonzero(compared(grid) & (order % 2 == order[mine[0]] % 2)), mine)
    for name, chosen in (("inner", np.tile(inner, 2)), ("corner", np.tile(~inner, 2))):
        columns[f"{name}_columns"] = np.flatnonzero(chosen)
    corner_values = (grid.samples(outer, grid.n_angles) * np.sqrt(weight)[..., None]).reshape(-1, grid.window_px**2).T
    for block, (reading, form, drawing) in enumerate(
        zip(
            split_reading(grid.projection, grid.window_px, blocks),
            split_form(corner_values, grid.window_px),
            split_drawing(grid.rendering, grid.window_px, blocks),
            strict=True,
        )
    ):
        fixed |= {f"reading_{block}": reading, f"energy_{block}": form, f"drawing_{block}": drawing}
    held = {name: torch.tensor(np.ascontiguousarray(array), dtype=torch.float32) for name, array in fixed.items()}
    return held | {name: torch.from_numpy(array) for name, array in columns.items()}


def compared(grid: PolarGrid) -> np.ndarray:
    """Return (H,) bool: which cosine (and sine) coefficients the encoder compares with its templates."""
    ring, order = grid.ring_and_order
    return np.asarray((ring < grid.n_inner) & (order < TURNS // 2))


def _comparison(grid: PolarGrid) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return, for orders 0, 4, 8 …, for 2, 6, 10 … and for odd ones, a name, which coefficients (C,) are compared, and to what a template's
    own coefficient turns (C, angles, 2, 2). A quarter turn leaves the first as they are and negates the second; odd ones are turned twice
    as far."""
    ring, order = grid.ring_and_order
    scale, groups = np.where(order == 0, 1, np.sqrt(2)) / np.sqrt(grid.area_px[ring]), []
    for name, group, angles in (
        ("fourfold", order % 4 == 0, TURNS // 4),
        ("twofold", order % 4 == 2, TURNS // 4),
        ("odd", order % 2 == 1, TURNS // 2),
    ):
        mine = np.flatnonzero(compared(grid) & group)
        phase = order[mine, None] * np.arange(angles) * (2 * np.pi / TURNS)
        cosine, sine = (scale[mine, None] * wave(phase) for wave in (np.cos, np.sin))
        groups.append((name, mine, np.stack([np.stack([cosine, -sine], -1), np.stack([sine, cosine], -1)])))
    return groups
