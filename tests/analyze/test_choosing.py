"""The encoder that a file gets unasked: the one made for its structure, and none where none was."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from stemzoo.analyze.choosing import Candidate, Hints, choose
from stemzoo.analyze.models import Models
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.scale import Scale
from stemzoo.simulation import draw_frames
from stemzoo.types import Analysis, Columns, Frames, ModelId
from stemzoo.zoo.card import read_card
from stemzoo.zoo.catalog import own_root

RECIPES = Path(__file__).parents[2] / "datasets"
SETTINGS = {"frame.size_px": 256, "defects": [], "specimen.vacuum": 0.0}


@pytest.fixture(scope="module")
def offered() -> tuple[Candidate, ...]:
    """The encoders that come with the package."""
    found = []
    for name, version in (("rvae-hexagonal", 1), ("rvae-perovskite", 2), ("rvae-sr3fe2o7", 2)):
        folder = own_root() / name / f"v{version}"
        found.append(Candidate(str(folder), f"{name}@{version}", "", tuple(read_card(folder)[0].materials)))
    return tuple(found)


def columns_of(recipe: str, **settings: Any) -> tuple[Analysis, Scale]:
    frame = next(draw_frames(RECIPES / f"{recipe}.toml", 1, 31, {**SETTINGS, **settings}))
    columns = Columns.at(frame.yx, pixel_size=frame.pixel_size)
    frames = Frames(np.asarray(frame.image)[None], frame.pixel_size, "user", path=recipe)
    return Analysis(frames, (columns,), ModelId("truth@1", "0" * 64)), Scale(float(frame.pixel_size), "user")


@pytest.mark.parametrize(
    ("recipe", "wanted"),
    [("mos2", "rvae-hexagonal@1"), ("wse2", "rvae-hexagonal@1"), ("srtio3", "rvae-perovskite@2"), ("sr3fe2o7", "rvae-sr3fe2o7@2")],
)
def test_a_structure_gets_the_encoder_that_was_made_for_it(recipe: str, wanted: str, offered: tuple[Candidate, ...]) -> None:
    choice = choose(*columns_of(recipe), offered)
    chosen, why = choice.candidate, str(choice)
    assert chosen is not None and chosen.id == wanted
    assert f"Angles and latents are from {wanted}" in why and all(candidate.id in why for candidate in offered)


def test_a_large_frame_is_looked_at_in_its_middle(offered: tuple[Candidate, ...]) -> None:
    analysis, scale = columns_of("mos2", **{"frame.size_px": 512})
    image = np.random.default_rng(0).normal(500, 500, (512, 512)).astype(np.float32)
    image[64:-64, 64:-64] = analysis.frames.frame(0)[64:-64, 64:-64]
    framed = replace(analysis, frames=replace(analysis.frames, data=image[None]))
    assert choose(framed, scale, offered).candidate == offered[0]


@pytest.mark.parametrize("recipe", ["gold_100", "iron", "graphene"])
def test_a_structure_that_no_encoder_knows_gets_none(recipe: str, offered: tuple[Candidate, ...]) -> None:
    choice = choose(*columns_of(recipe), offered)
    assert choice.candidate is None and choice.why.startswith("No encoder of the zoo fits")
    assert "--fit-encoder" in choice.advice and "--pixel-size" not in choice.advice


def test_a_window_that_no_encoder_was_made_for_leaves_none(offered: tuple[Candidate, ...]) -> None:
    """What is then analysed is what was compared: no encoder is praised for a window that it does not get."""
    analysis, scale = columns_of("srtio3")
    assert scale.sampling is not None
    choice = choose(analysis, scale, offered, window_px=13 / scale.sampling)
    assert choice.candidate is None and "is not the one that they were made for" in choice.why


def test_windows_that_rest_on_an_estimate_are_said_to(offered: tuple[Candidate, ...]) -> None:
    """MoS2 taken for 1.4 times as coarse is known by no encoder; with its pixel size it would be."""
    analysis, scale = columns_of("mos2")
    assert scale.sampling is not None
    choice = choose(analysis, Scale(scale.sampling / 0.7, "lattice", estimated=True), offered)
    assert choice.candidate is None and "cut at an estimated" in choice.why and "pass --pixel-size Å if you know it" in choice.advice
    hint = re.search(r"At about ([\d.]+) Å/px rvae-hexagonal@1, of mos2, mose2, wse2, would explain (\d+)%", choice.why)
    assert hint is not None and float(hint[1]) == pytest.approx(scale.sampling, rel=0.1) and int(hint[2]) >= 55
    assert "would explain" not in choose(*columns_of("graphene"), offered).why, "graphene is MoS2 at another scale; its own is known"


def test_a_hint_is_kept_for_frames_that_look_alike_and_for_no_others(
    offered: tuple[Candidate, ...], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr("stemzoo.analyze.choosing._elsewhere", lambda *of: asked.append(of[1]) or f"Hint {len(asked)}. ")
    hints = Hints()
    analysis, scale = columns_of("mos2")
    assert scale.sampling is not None

    def why(off: float) -> str:
        return choose(analysis, Scale(scale.sampling * off, "lattice", estimated=True), offered, hints=hints).why

    said = [why(off) for off in (1.43, 1.44, 1.9, 1.43)]
    assert [re.search(r"Hint \d", text)[0] for text in said] == ["Hint 1", "Hint 1", "Hint 2", "Hint 1"] and len(asked) == 2
    assert "No encoder" in said[0] and said[0].split("Hint")[0] != said[2].split("Hint")[0], (
        "what is explained is said of each frame itself"
    )
    same = {"a": 0.2, "b": 0.3}
    for shares, new in (({"a": 0.21, "b": 0.3}, False), ({"a": 0.2, "b": 0.4}, True), ({"a": 0.2}, True)):
        fresh = Hints()
        fresh.find(0.2, same, lambda: "first")
        assert (fresh.find(0.2, shares, lambda: "second") == "second") is new


def test_too_few_columns_choose_nothing(offered: tuple[Candidate, ...]) -> None:
    analysis, scale = columns_of("srtio3")
    few = Columns.at(analysis.columns[0].yx[:3])
    choice = choose(Analysis(analysis.frames, (few,), analysis.segmenter), scale, offered)
    assert choice.candidate is None and "too few columns" in choice.why
    assert "--fit-encoder" not in choice.advice, "nor are they enough to fit one to"


def test_a_server_chooses_for_each_frame(offered: tuple[Candidate, ...]) -> None:
    """As `serve` does where no encoder is named: what fits one frame is not put upon the next."""
    fitting = Models(None, offered=offered).chooser()
    assert fitting is not None and Models(None).chooser() is None
    said = []
    for recipe in ("mos2", "srtio3", "graphene"):
        analysis, scale = columns_of(recipe)
        encoder, why = fitting(replace(analysis, sampling=scale.sampling))
        said.append(None if encoder is None else encoder.spec.id)
        assert "--fit-encoder" not in why, "a server has no such option"
    assert said == ["rvae-hexagonal@1", "rvae-perovskite@2", None]


def test_the_encoders_offered_here_can_be_loaded(offered: tuple[Candidate, ...]) -> None:
    assert all(Encoder(Bundle.load(candidate.folder)).spec.id == candidate.id for candidate in offered)
