"""A segmenter's bundle to one that computes in eight bits from its first convolution on. Owns the graph in eight bits and its bundle.

Weights have seven of the eight bits, so that products of bytes cannot overflow where a processor adds pairs of them in sixteen, and every
processor gets the same sums. The ranges of the activations come from frames. onnxruntime's static quantisation does the work; called by
stemzoo.quantise and scripts.
"""

from __future__ import annotations

import contextlib
import io
import logging
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from stemzoo.errors import ExportError, ModelError
from stemzoo.export.bundle import GRAPHS, check_folder, complete_card, named_by, seal
from stemzoo.export.onnx import IR_VERSION, check_graph
from stemzoo.runtime.bundle import GOLDEN_FILE, METADATA_KEY, MODEL_FILE, WEIGHTS_FILE, sha256_of
from stemzoo.runtime.session import open_session
from stemzoo.zoo.card import Card, read_card
from stemzoo.zoo.whole import whole_folder

IN_BYTES = ("Conv", "Relu", "MaxPool", "Resize", "Add", "Concat")
"""What works on bytes: between convolutions too, a value in four bytes costs a conversion to and fro, and four times the memory."""

GOLDEN = {"atol": 0.15, "rtol": 1e-4}
"""A value on the border of two bytes falls to either side with the last bit of what was before it, and some of the map with it: the same
graph differs by up to 0.07 between releases of onnxruntime. That its file is the right one, the sha256 says."""


def write_in_eight_bits(folder: Path, source: Path, graph: Path, stated: Mapping[str, Any]) -> Card:
    """Return the card of the bundle written to `folder`: the segmenter in `source`, computed in eight bits.

    Args:
        folder: must not exist yet, or be empty.
        source: a bundle; its weights go along, to train on.
        graph: what `quantise_graph` made of the source's.
        stated: keys of the card that differ from the source's; name and version must be among them.
    Raises: CardError, OutputError, ExportError as `export.bundle.write_bundle`.
    """
    parent, _ = read_card(source)
    draft = {key: value for key, value in parent.model_dump(mode="python").items() if key not in ("id", "created", "files", "parameters")}
    draft |= {"parent": sha256_of(source / WEIGHTS_FILE), "golden": GOLDEN, "default": False, **stated, **named_by(folder)}
    card = complete_card(draft, parent.parameters)
    check_folder(folder, card)
    with whole_folder(folder) as work:
        model = onnx.load(str(graph))
        onnx.helper.set_model_props(model, {METADATA_KEY: card.to_metadata()})
        (work / MODEL_FILE).write_bytes(model.SerializeToString(deterministic=True))
        shutil.copyfile(source / WEIGHTS_FILE, work / WEIGHTS_FILE)
        np.savez_compressed(work / GOLDEN_FILE, **_golden(source / GOLDEN_FILE, work / MODEL_FILE))  # type: ignore[arg-type]
        return seal(work, card)


def in_eight_bits(graph: Path) -> bool:
    """Return whether the network in the ONNX file `graph` computes with bytes somewhere."""
    model = onnx.load(str(graph), load_external_data=False)
    return any(node.op_type in ("QuantizeLinear", "DequantizeLinear") for node in model.graph.node)


def quantise_graph(source: Path, target: Path, frames: Iterable[np.ndarray], weight_bits: int = 7) -> None:
    """Write the segmenter's graph `source`, in eight bits from its first convolution on, to `target`.

    Args:
        frames: (H, W) float32 at the network's sampling, sides multiples of its stride; they set the ranges of the activations.
        weight_bits: 7 or 8.
    Raises: ExportError if onnxruntime cannot quantise it, or the graph breaks the contract of export.onnx.
    """
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.waiting = iter(frames)

        def get_next(self) -> dict[str, np.ndarray] | None:
            return next(({"image": image[None, None]} for image in self.waiting), None)

    with tempfile.TemporaryDirectory() as work, _quiet():
        prepared, made = Path(work) / "prepared.onnx", Path(work) / "made.onnx"
        try:
            quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
            quantize_static(
                str(prepared),
                str(made),
                Reader(),
                quant_format=QuantFormat.QDQ,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                op_types_to_quantize=list(IN_BYTES),
                nodes_to_exclude=_before_convolutions(prepared),
                per_channel=True,
                reduce_range=weight_bits == 7,
            )
        except Exception as error:
            raise ExportError(f"{source}: onnxruntime cannot quantise it ({type(error).__name__}: {error})") from error
        model = onnx.load(str(made))
    used = {node.domain or "ai.onnx" for node in model.graph.node}
    imported = [entry for entry in model.opset_import if (entry.domain or "ai.onnx") in used]
    del model.opset_import[:]
    model.opset_import.extend(imported)
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "stemzoo", ""
    del model.graph.value_info[:], model.metadata_props[:]
    outputs, dynamic = GRAPHS["segmentation"]
    check_graph(model, ["image"], outputs, dynamic)
    target.write_bytes(model.SerializeToString(deterministic=True))


def _before_convolutions(path: Path) -> list[str]:
    """Return the names of the nodes at `path` whose results no convolution bears on: what is done to the frame itself needs every bit."""
    behind: set[str] = set()
    before = []
    for node in onnx.load(str(path)).graph.node:  # in the order in which they are worked out
        if node.op_type == "Conv" or behind.intersection(node.input):
            behind.update(node.output)
        else:
            before.append(node.name)
    return before


def _golden(source: Path, graph: Path) -> dict[str, np.ndarray]:
    """Return the golden inputs in `source` with what `graph` makes of them. Raises: ModelError if there are none."""
    session = open_session(graph)
    with np.load(source, allow_pickle=False) as archive:
        inputs = {name: archive[name] for name in archive.files if name.startswith("input_image_")}
    if not inputs:
        raise ModelError(f"{source}: holds no input_image_… arrays; export the model again")
    outputs = {
        name.replace("input_image", "output_probability"): session.run({"image": array})["probability"] for name, array in inputs.items()
    }
    return {**inputs, **outputs}


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the advice that onnxruntime's quantisation logs."""
    logger = logging.getLogger()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logger.setLevel(level)
