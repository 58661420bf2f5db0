"""Stand-in bundles made of a few ONNX operators: a segmenter that finds bright blobs, an encoder that reads the direction of a gradient.

Real enough that `locate` finds simulated columns and that angles can be checked, small enough to need no training. Imported by the tests of
every room that runs a network; tests/conftest.py puts this folder on the path.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from stemzoo.runtime.session import SessionOptions, open_session

SAMPLING = 0.2  # Å/px
ONE_THREAD = SessionOptions(threads=1)

SEGMENTER_CARD = {
    "id": "blob@1",
    "task": "segmentation",
    "sampling": {"min": 0.15, "max": 0.25, "nominal": SAMPLING},
    "classes": ["column"],
    "threshold": 0.5,
    "min_separation": 1.2,
    "receptive_px": 27,
    "stride_px": 4,
    "unknown_to_this_version": {"is": "ignored"},
}
WINDOW_PX = 17
ENCODER_CARD = {
    "id": "dipole@1",
    "task": "encoding",
    "sampling": {"min": 0.05, "max": 0.4, "nominal": SAMPLING},
    "window": {"px": WINDOW_PX, "angstrom": WINDOW_PX * SAMPLING},
    "latents": 2,
    "gauge": "brighter side to the right",
}


def save_graph(path: Path, nodes: list, inputs: list, outputs: list, constants: dict, card: dict | None) -> None:
    """Write an ONNX file of opset 18, IR 8, that carries `card`."""
    initializers = [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()]
    model = helper.make_model(
        helper.make_graph(nodes, "standin", inputs, outputs, initializers), opset_imports=[helper.make_opsetid("", 18)], ir_version=8
    )
    if card is not None:
        helper.set_model_props(model, {"stemzoo_card": json.dumps(card)})
    onnx.checker.check_model(model, full_check=True)
    onnx.save(model, str(path))


def save_segmenter(path: Path, card: dict | None = None) -> None:
    """Sigmoid of the blurred, locally normalised image, by way of a 2×2 mean and a doubling so that the phase of tiles matters. Reach: 27
    px."""
    y, x = np.mgrid[-4:5, -4:5]
    kernel = np.exp(-(y**2 + x**2) / (2 * 1.2**2)).astype(np.float32)
    pool = {"kernel_shape": [25, 25], "pads": [12, 12, 12, 12], "count_include_pad": 0}
    nodes = [
        helper.make_node("AveragePool", ["image"], ["mean"], **pool),
        helper.make_node("Sub", ["image", "mean"], ["centred"]),
        helper.make_node("Conv", ["centred", "kernel"], ["blurred"], pads=[4, 4, 4, 4]),
        helper.make_node("AveragePool", ["centred"], ["half"], kernel_shape=[2, 2], strides=[2, 2]),
        helper.make_node("Resize", ["half", "", "scales"], ["doubled"], mode="nearest"),
        helper.make_node("Mul", ["doubled", "small"], ["blocky"]),
        helper.make_node("Mul", ["image", "image"], ["square"]),
        helper.make_node("AveragePool", ["square"], ["mean_square"], **pool),
        helper.make_node("Mul", ["mean", "mean"], ["square_mean"]),
        helper.make_node("Sub", ["mean_square", "square_mean"], ["variance"]),
        helper.make_node("Max", ["variance", "floor"], ["positive"]),
        helper.make_node("Sqrt", ["positive"], ["spread"]),
        helper.make_node("Add", ["blurred", "blocky"], ["signal"]),
        helper.make_node("Div", ["signal", "spread"], ["score"]),
        helper.make_node("Sub", ["score", "one"], ["shifted"]),
        helper.make_node("Mul", ["shifted", "gain"], ["logit"]),
        helper.make_node("Sigmoid", ["logit"], ["probability"]),
    ]
    constants = {
        "kernel": (kernel / kernel.sum())[None, None],
        "scales": np.array([1, 1, 2, 2], np.float32),
        "small": np.float32(1e-3),
        "floor": np.float32(100),
        "one": np.float32(0.7),
        "gain": np.float32(3),
    }
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["B", 1, "H", "W"])
    probability = helper.make_tensor_value_info("probability", TensorProto.FLOAT, ["B", 1, "H", "W"])
    save_graph(path, nodes, [image], [probability], constants, SEGMENTER_CARD if card is None else card)


def save_encoder(path: Path, card: dict | None = None) -> None:
    """Angle of the first moment, counter-clockwise as displayed; latents: mean intensity and length of the moment."""
    y, x = np.mgrid[:WINDOW_PX, :WINDOW_PX] - (WINDOW_PX - 1) / 2
    axes = np.array([1, 2], np.int64)
    nodes = [
        helper.make_node("Mul", ["subimages", "right"], ["wx"]),
        helper.make_node("Mul", ["subimages", "up"], ["wy"]),
        helper.make_node("ReduceSum", ["wx", "axes"], ["mx"], keepdims=0),
        helper.make_node("ReduceSum", ["wy", "axes"], ["my"], keepdims=0),
        helper.make_node("Div", ["my", "mx"], ["slope"]),
        helper.make_node("Atan", ["slope"], ["atan"]),
        helper.make_node("Less", ["mx", "zero"], ["left"]),
        helper.make_node("Add", ["atan", "pi"], ["turned"]),
        helper.make_node("Where", ["left", "turned", "atan"], ["angle"]),
        helper.make_node("Mul", ["mx", "mx"], ["mx2"]),
        helper.make_node("Mul", ["my", "my"], ["my2"]),
        helper.make_node("Add", ["mx2", "my2"], ["m2"]),
        helper.make_node("Sqrt", ["m2"], ["length"]),
        helper.make_node("Reciprocal", ["length"], ["angle_sigma"]),
        helper.make_node("ReduceMean", ["subimages", "axes"], ["mean"], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "last"], ["z1"]),
        helper.make_node("Unsqueeze", ["length", "last"], ["z2"]),
        helper.make_node("Concat", ["z1", "z2"], ["latents"], axis=1),
        helper.make_node("Sign", ["length"], ["sign"]),
        helper.make_node("Cast", ["sign"], ["symmetry"], to=TensorProto.INT64),
    ]
    constants = {
        "right": x.astype(np.float32)[None],
        "up": -y.astype(np.float32)[None],
        "axes": axes,
        "last": np.array([1], np.int64),
        "zero": np.float32(0),
        "pi": np.float32(np.pi),
    }
    inputs = [helper.make_tensor_value_info("subimages", TensorProto.FLOAT, ["N", WINDOW_PX, WINDOW_PX])]
    outputs = [
        helper.make_tensor_value_info("angle", TensorProto.FLOAT, ["N"]),
        helper.make_tensor_value_info("angle_sigma", TensorProto.FLOAT, ["N"]),
        helper.make_tensor_value_info("symmetry", TensorProto.INT64, ["N"]),
        helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["N", 2]),
    ]
    save_graph(path, nodes, inputs, outputs, constants, ENCODER_CARD if card is None else card)


def save_decoder(path: Path) -> None:
    """A pattern of constant value z1 + angle."""
    nodes = [
        helper.make_node("Gather", ["latents", "first"], ["z"], axis=1),
        helper.make_node("Unsqueeze", ["angle", "last"], ["column"]),
        helper.make_node("Add", ["z", "column"], ["value"]),
        helper.make_node("Unsqueeze", ["value", "tail"], ["deep"]),
        helper.make_node("Mul", ["deep", "ones"], ["pattern"]),
    ]
    constants = {
        "first": np.array([0], np.int64),
        "last": np.array([1], np.int64),
        "tail": np.array([2], np.int64),
        "ones": np.ones((1, WINDOW_PX, WINDOW_PX), np.float32),
    }
    inputs = [
        helper.make_tensor_value_info("latents", TensorProto.FLOAT, ["M", 2]),
        helper.make_tensor_value_info("angle", TensorProto.FLOAT, ["M"]),
    ]
    outputs = [helper.make_tensor_value_info("pattern", TensorProto.FLOAT, ["M", WINDOW_PX, WINDOW_PX])]
    save_graph(path, nodes, inputs, outputs, constants, None)


def save_golden(folder: Path) -> None:
    """Write golden.npz from what the folder's own graph gives for two sizes or batches."""
    session = open_session(folder / "model.onnx", ONE_THREAD)
    rng = np.random.default_rng(5)
    name = session.inputs[0]
    shapes = ((2, 1, 32, 40), (1, 1, 48, 32)) if name == "image" else ((4, WINDOW_PX, WINDOW_PX), (2, WINDOW_PX, WINDOW_PX))
    golden = {}
    for k, shape in enumerate(shapes):
        golden[f"input_{name}_{k}"] = rng.poisson(50, shape).astype(np.float32)
        golden |= {f"output_{out}_{k}": value for out, value in session.run({name: golden[f"input_{name}_{k}"]}).items()}
    np.savez(folder / "golden.npz", **golden)


def draw(
    shape: tuple[int, int], yx: np.ndarray, width_px: float, peak: float = 400.0, background: float = 40.0, seed: int | None = None
) -> np.ndarray:
    """Return (H, W) counts of Gaussian columns at `yx`, with Poisson noise where a seed is given."""
    y, x = np.arange(shape[0])[:, None], np.arange(shape[1])[:, None]
    rows = np.exp(-((y - yx[:, 0]) ** 2) / (2 * width_px**2))
    cols = np.exp(-((x - yx[:, 1]) ** 2) / (2 * width_px**2))
    image = background + peak * rows @ cols.T
    return image if seed is None else np.random.default_rng(seed).poisson(image).astype(float)


def square_lattice(shape: tuple[int, int], period_px: float, seed: int = 0) -> np.ndarray:
    """Return (n, 2) positions of a square lattice, each displaced by up to a twentieth of a period, wholly inside the frame."""
    rng = np.random.default_rng(seed)
    y, x = (np.arange(0.7 * period_px, side - 0.6 * period_px, period_px) for side in shape)
    yx = np.stack(np.meshgrid(y, x, indexing="ij"), axis=-1).reshape(-1, 2)
    return yx + rng.uniform(-0.05, 0.05, yx.shape) * period_px
