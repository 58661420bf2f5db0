"""An encoder's scores: angles that follow a known turn, latents that know the species, what the decoder explains."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemzoo.errors import ModelError
from stemzoo.evaluate.encoding import encode_frame, encoded_frames, summarise_encoding
from stemzoo.runtime.encoder import Encoder
from stemzoo.types import Frames


def dumbbells(seed: int, noise: float = 0.02) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return an image of columns 6 Å apart, each with a companion in a direction of its own, places yx px and species (companion's
    brightness)."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:200, :200].astype(float)
    places = np.stack(np.meshgrid(np.arange(25.0, 180, 30), np.arange(25.0, 180, 30), indexing="ij"), axis=-1).reshape(-1, 2)
    species = np.arange(len(places)) % 2
    image = np.full((200, 200), 0.1)
    for (cy, cx), kind, turn in zip(places, species, rng.uniform(0, 2 * np.pi, len(places)), strict=True):
        image += np.exp(-((y - cy) ** 2 + (x - cx) ** 2) / 8)
        image += (0.4 + 0.4 * kind) * np.exp(-((y - cy + 5 * np.sin(turn)) ** 2 + (x - cx - 5 * np.cos(turn)) ** 2) / 8)
    return image + rng.normal(0, noise, image.shape), places, species


@pytest.fixture
def frames(encoder: Encoder) -> list[Any]:
    made = []
    for seed in range(3):
        image, places, species = dumbbells(seed)
        frame = Frames(image[None].astype(np.float32), 0.2, "user", f"dumbbells {seed}")
        made.append(encode_frame(encoder, frame, places, species, "a" if seed < 2 else "b"))
    return made


def test_angles_follow_the_turn_and_latents_know_the_species(frames: list[Any]) -> None:
    everything, a, b = summarise_encoding(frames)
    assert [score.group for score in (everything, a, b)] == ["all", "a", "b"]
    assert (everything.n_frames, everything.n_columns, a.n_columns) == (3, 108, 72)
    assert everything.angle_deg < 3, "a wrong sign of the turn, or of the angle, makes tens of degrees"
    assert everything.angle_interval[0] <= everything.angle_deg <= everything.angle_interval[1]
    assert everything.species > 0.95
    assert everything.moved < 0.2
    assert everything.explained < 0.05, "the stand-in's decoder draws nothing"


def test_an_encoder_that_ignores_the_turn(frames: list[Any]) -> None:
    """Of angles that do not follow, the score says so."""
    stuck = [dataclasses.replace(frame, error=frame.error + np.radians(40)) for frame in frames]
    assert summarise_encoding(stuck)[0].angle_deg == pytest.approx(40, abs=3)
    shuffled = [dataclasses.replace(frame, species=np.random.default_rng(0).permutation(frame.species)) for frame in frames]
    assert summarise_encoding(shuffled)[0].species < 0.75


def test_stated_errors_are_held_against_what_came_true(frames: list[Any]) -> None:
    rng = np.random.default_rng(0)
    honest = [
        dataclasses.replace(frame, error=rng.normal(0, 0.01, 400), sigma=np.full(400, 0.01), surest=np.full(400, 0.01)) for frame in frames
    ]
    score = summarise_encoding(honest)[0]
    assert score.z_spread == pytest.approx(1, abs=0.08) and score.sure == 1
    assert score.sure_p90_deg == pytest.approx(np.degrees(1.645 * 0.01), rel=0.1)
    assert summarise_encoding([dataclasses.replace(frame, sigma=frame.sigma / 2) for frame in honest])[0].z_spread == pytest.approx(
        2, abs=0.16
    )
    none = summarise_encoding([dataclasses.replace(frame, surest=np.full(400, np.pi)) for frame in honest])[0]
    assert none.sure == 0 and np.isnan(none.sure_p90_deg)


def test_one_species_and_no_decoder(
    encoder: Encoder, dataset: Callable[..., Path], draw: Callable[..., np.ndarray], lattice: np.ndarray, tmp_path: Path
) -> None:
    path = dataset(("a", draw((96, 112), lattice, 2.0, seed=1), lattice))
    ticks: list[tuple[int, int]] = []
    score = summarise_encoding(list(encoded_frames(encoder, path, progress=lambda done, total: ticks.append((done, total)))))[0]
    assert np.isnan(score.species) and ticks == [(1, 1)]
    from stemzoo.runtime.bundle import Bundle

    (tmp_path / "model.onnx").write_bytes((encoder.bundle.folder / "model.onnx").read_bytes())
    bare = Encoder(Bundle.load(tmp_path))
    assert np.isnan(summarise_encoding(list(encoded_frames(bare, path)))[0].explained)
    with pytest.raises(ModelError):
        bare.decode(np.zeros((1, 2)), np.zeros(1))
