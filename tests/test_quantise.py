"""A segmenter in eight bits: the same columns from a graph of bytes, and none at all where it finds fewer."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from typer.testing import CliRunner

from stemzoo import quantise as module
from stemzoo.cli import app
from stemzoo.errors import CardError, DatasetError, ExportError, ModelError, OutputError
from stemzoo.quantise import RANGES, quantise
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.golden import verify
from stemzoo.simulation import simulate_dataset
from stemzoo.zoo.card import read_card
from stemzoo.zoo.check import sha256_of

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "model_cards" / "adf-unet" / "v3"
SETTINGS = {"frame.size_px": 128, "frame.sampling": 0.2, "dose.counts_per_column": 600}


@pytest.fixture(scope="module")
def held_back(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("frames") / "held_back.h5"
    return simulate_dataset(ROOT / "datasets" / "srtio3.toml", 2 * RANGES, path, seed=5, settings=SETTINGS)


@pytest.fixture(scope="module")
def variant(tmp_path_factory: pytest.TempPathFactory, held_back: Path) -> Path:
    folder = tmp_path_factory.mktemp("zoo") / "adf-unet-int8" / "v1"
    quantise(str(SOURCE), held_back, folder)
    return folder


def test_every_convolution_works_on_bytes_that_cannot_overflow(variant: Path) -> None:
    graph = onnx.load(str(variant / "model.onnx")).graph
    makes = {name: node.op_type for node in graph.node for name in node.output}
    convolutions = [node for node in graph.node if node.op_type == "Conv"]
    assert len(convolutions) > 10
    assert all(makes[node.input[0]] == "DequantizeLinear" and makes[node.input[1]] == "DequantizeLinear" for node in convolutions)
    weights = [onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.data_type == onnx.TensorProto.INT8]
    kernels = [array for array in weights if array.ndim == 4]
    assert len(kernels) == len(convolutions)
    assert max(np.abs(array.astype(int)).max() for array in kernels) <= 64


def test_bytes_stay_bytes_between_convolutions_and_the_frame_keeps_its_bits(variant: Path) -> None:
    graph = onnx.load(str(variant / "model.onnx")).graph
    makes = {name: node.op_type for node in graph.node for name in node.output}
    inner = [node for node in graph.node if node.op_type in ("Add", "Resize", "MaxPool")]
    bytewise = [node for node in inner if makes.get(node.input[0]) == "DequantizeLinear"]
    # three levels, each with a pooling on the way down, an enlarging and a sum on the way up
    assert sorted(node.op_type for node in bytewise) == 3 * ["Add"] + 3 * ["MaxPool"] + 3 * ["Resize"]
    assert all("contrast" in node.name for node in inner if node not in bytewise)


def test_the_file_is_small_and_within_the_contract(variant: Path) -> None:
    model = onnx.load(str(variant / "model.onnx"))
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 18)]
    assert model.ir_version == 8
    assert (variant / "model.onnx").stat().st_size < 0.4 * (SOURCE / "model.onnx").stat().st_size
    assert verify(Bundle.load(variant)).ok


def test_its_card_says_what_it_was_made_of_and_how_both_did(variant: Path) -> None:
    card, prose = read_card(variant)
    assert card.id == "adf-unet-int8@1"
    assert card.parent == sha256_of(SOURCE / "weights.safetensors") == card.file("weights.safetensors").sha256
    assert not card.default
    scores = {row.metric: row for row in card.evaluation}
    eight, single = scores["F1 at 0.5 Å, in eight bits"], scores["F1 at 0.5 Å, adf-unet@3"]
    assert single.value > 0.95
    assert eight.value >= single.value - module.MOST_F1_LOST
    assert eight.n == single.n > 100
    assert f"{RANGES} frames" in eight.dataset
    assert "eight bits" in prose


def test_the_map_is_that_of_single_precision_but_for_rounding(variant: Path) -> None:
    with np.load(SOURCE / "golden.npz") as single, np.load(variant / "golden.npz") as eight:
        first, second = (archive["output_probability_0"] for archive in (single, eight))
    assert 0 < np.abs(first - second).mean() < 0.02


def test_a_variant_that_finds_fewer_columns_is_refused_and_leaves_nothing(
    held_back: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from stemzoo.export import eightbits

    def coarse(source: Path, target: Path, frames: object) -> None:
        """The graph with the weights of every convolution rounded to a step of their own size, as with two bits."""
        model = onnx.load(str(source))
        for tensor in model.graph.initializer:
            weight = onnx.numpy_helper.to_array(tensor)
            if weight.ndim == 4:
                step = np.abs(weight).max() / 2
                tensor.CopyFrom(onnx.numpy_helper.from_array(np.round(weight / step) * step, tensor.name))
        target.write_bytes(model.SerializeToString())

    monkeypatch.setattr(eightbits, "quantise_graph", coarse)
    with pytest.raises(ExportError, match=r"its F1 falls from [01]\.\d+ to 0\.\d+"):
        quantise(str(SOURCE), held_back, tmp_path / "out")
    assert not list(tmp_path.iterdir())


def test_refusals_name_what_is_wrong(held_back: Path, tmp_path: Path, variant: Path) -> None:
    few = simulate_dataset(ROOT / "datasets" / "srtio3.toml", 3, tmp_path / "few.h5", seed=1, settings=SETTINGS)
    with pytest.raises(DatasetError, match="holds 3 frames; wanted 16 or more"):
        quantise(str(SOURCE), few, tmp_path / "out")
    with pytest.raises(OutputError, match="already there"):
        quantise(str(SOURCE), tmp_path / "none.h5", variant)  # said before anything is scored
    with pytest.raises(ModelError, match="is a model for encoding; wanted one for segmentation"):
        quantise("rvae-hexagonal", held_back, tmp_path / "out")
    already = (
        "adf-unet-int8@1 computes in eight bits already; wanted a segmenter in single precision: take this one as it is, or name the one"
    )
    with pytest.raises(ModelError, match=already):
        quantise(str(variant), held_back, tmp_path / "out")
    with pytest.raises(CardError, match="version"):
        quantise(str(SOURCE), held_back, tmp_path / "out", {"version": 0})


def test_the_command_prints_both_scores(held_back: Path, tmp_path: Path) -> None:
    out = tmp_path / "small-unet" / "v4"
    done = CliRunner().invoke(app, ["quantise", str(SOURCE), "--scores", str(held_back), "--out", str(out), "--json"])
    assert done.exit_code == 0, done.output
    printed = json.loads(done.stdout)
    assert printed["model"] == read_card(out)[0].id == "small-unet@4"
    assert printed["eight_bits"]["n_columns"] == printed["single_precision"]["n_columns"]
