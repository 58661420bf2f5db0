"""Graphs: the agreed opset, IR and axes, or a refusal that says what is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import Tensor, nn

from stemzoo.errors import ExportError
from stemzoo.export.onnx import check_graph, export_graph
from stemzoo.runtime.session import SessionOptions, open_session

AXES = {"image": {0: "batch", 2: "height", 3: "width"}}


def test_contract(published: tuple[Path, nn.Module]) -> None:
    path = published[0] / "model.onnx"
    model = onnx.load(path)
    assert (model.ir_version, [(entry.domain, entry.version) for entry in model.opset_import]) == (8, [("", 18)])
    assert _axes(model) == {"image": ["batch", 1, "height", "width"], "probability": ["batch", 2, "height", "width"]}
    assert json.loads({prop.key: prop.value for prop in model.metadata_props}["stemzoo_card"])["id"] == "blur@1"
    assert str(Path(__file__).parent).encode() not in path.read_bytes()
    session = open_session(path, SessionOptions(threads=1))
    for shape in ((1, 1, 16, 16), (3, 1, 64, 20)):
        assert session.run({"image": np.ones(shape, np.float32)})["probability"].shape == (shape[0], 2, *shape[2:])


def _axes(model: onnx.ModelProto) -> dict[str, list[str | int]]:
    """Return what a graph says of the axes of its inputs and outputs: a name where the length is free."""
    values = [*model.graph.input, *model.graph.output]
    return {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim] for value in values}


def test_encoders_say_which_lengths_of_their_answers_are_fixed(tmp_path: Path, encoder_modules: dict[str, nn.Module]) -> None:
    """A trace alone calls them Concatpattern_dim_1."""
    path, batch = tmp_path / "decoder.onnx", {0: "batch"}
    example = {"latents": torch.rand(3, 2), "angle": torch.rand(3)}
    export_graph(encoder_modules["decoder"], example, ["pattern"], {"latents": batch, "angle": batch}, path, {})
    assert _axes(onnx.load(path)) == {"latents": ["batch", 2], "angle": ["batch"], "pattern": ["batch", 16, 16]}
    subimages = {"subimages": torch.rand(3, 16, 16)}
    export_graph(encoder_modules["model"], subimages, ["angle", "angle_sigma", "symmetry", "latents"], {"subimages": batch}, path, {})
    answers = {"angle": ["batch"], "angle_sigma": ["batch"], "symmetry": ["batch"], "latents": ["batch", 2]}
    assert _axes(onnx.load(path)) == {"subimages": ["batch", 16, 16], **answers}


def test_a_short_example_is_refused(tmp_path: Path, segmenter_modules: dict[str, nn.Module]) -> None:
    with pytest.raises(ExportError, match=r"example image has shape \(1, 1, 32, 32\); wanted 2 or more along its dynamic axes \[0\]"):
        export_graph(segmenter_modules["model"], {"image": torch.rand(1, 1, 32, 32)}, ["probability"], AXES, tmp_path / "model.onnx", {})


def test_foreign_graphs_are_refused(published: tuple[Path, nn.Module]) -> None:
    model = onnx.load(published[0] / "model.onnx")
    check_graph(model, ["image"], ["probability"], AXES)
    with pytest.raises(ExportError, match=r"the graph goes \['image'\] -> \['probability'\]; wanted \['frame'\] -> \['probability'\]"):
        check_graph(model, ["frame"], ["probability"], AXES)
    model.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    with pytest.raises(ExportError, match=r"the graph imports .*com.microsoft.*; wanted ai.onnx 18 alone"):
        check_graph(model, ["image"], ["probability"], AXES)


def test_a_fixed_axis_is_refused(published: tuple[Path, nn.Module]) -> None:
    model = onnx.load(published[0] / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[3].dim_value = 32
    with pytest.raises(ExportError, match=r"axis 3 \(width\) of image is fixed at 32"):
        check_graph(model, ["image"], ["probability"], AXES)


def test_what_cannot_be_exported_is_one_message(tmp_path: Path) -> None:
    class Unexportable(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.linalg.eigvals(image).abs()

    with pytest.raises(ExportError, match="Unexportable cannot be exported to ONNX opset 18") as caught:
        export_graph(Unexportable(), {"image": torch.rand(2, 1, 32, 32)}, ["probability"], AXES, tmp_path / "model.onnx", {})
    assert "\n" not in str(caught.value) and not list(tmp_path.iterdir())


def test_what_tracing_cannot_do_is_captured(tmp_path: Path) -> None:
    """The complex spectrum is beyond torch's tracer; the slower way takes over without a word."""

    class Spectrum(nn.Module):
        def forward(self, image: Tensor) -> Tensor:
            return torch.fft.rfft(image, dim=3).abs()

    path = tmp_path / "model.onnx"
    export_graph(Spectrum(), {"image": torch.rand(2, 1, 8, 16)}, ["probability"], {"image": {0: "batch"}}, path, {})
    image = np.random.default_rng(0).random((3, 1, 8, 16), dtype=np.float32)
    found = open_session(path, SessionOptions(threads=1)).run({"image": image})["probability"]
    np.testing.assert_allclose(found, np.abs(np.fft.rfft(image)), atol=1e-5)


def test_equal_constants_are_kept_once(tmp_path: Path) -> None:
    class Repeats(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("grid", torch.rand(64, 64))

        def forward(self, image: Tensor) -> Tensor:
            return (image * (self.grid + 1)).sin() + (image * (self.grid + 1)).cos() * (self.grid + 1)

    image = torch.rand(2, 1, 64, 64)
    path = tmp_path / "model.onnx"
    export_graph(Repeats(), {"image": image}, ["probability"], {"image": {0: "batch"}}, path, {})
    sizes = [np.prod(tensor.dims) for tensor in onnx.load(path).graph.initializer]
    assert sum(size == 64 * 64 for size in sizes) == 1
    assert not [node for node in onnx.load(path).graph.node if node.op_type == "Constant"]
