"""A torch module to one ONNX file. Owns opset, IR version, dynamic axes and the metadata; proves nothing (export.parity does).

Opset 18 and IR 8 load in onnxruntime from 1.14 on. Only operators of the standard domain are accepted, and weights stay inside the file.
Called by export.bundle.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import onnx
import torch
from torch import nn

from stemzoo.errors import ExportError

OPSET = 18
IR_VERSION = 8
Dynamic = Mapping[str, Mapping[int, str]]


def export_graph(
    module: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], dynamic: Dynamic, path: Path, metadata: Mapping[str, str]
) -> None:
    """Write `module` as an ONNX graph to `path`.

    Args:
        module: in any mode; exported in evaluation mode on the CPU, and left so.
        inputs: an example for each argument of `forward`, by the name it gets in the graph, in order. A dynamic axis must be 2 or longer
            in the example, since 0 and 1 are taken as constants.
        outputs: names of what `forward` returns, in order.
        dynamic: for an input's name, the axes of free length and what to call them, e.g. {"image": {0: "batch", 2: "height", 3: "width"}}.
            Every output has those of the first input.
        metadata: texts to carry in `metadata_props`.

    Raises: ExportError if the module cannot be exported, if an axis wanted free became fixed, or if the graph breaks the contract above.
    """
    module = module.eval().cpu()
    for name, axes in dynamic.items():
        short = [axis for axis in axes if inputs[name].shape[axis] < 2]
        if short:
            raise ExportError(f"example {name} has shape {tuple(inputs[name].shape)}; wanted 2 or more along its dynamic axes {short}")
    model = _traced(module, inputs, outputs, dynamic)
    _name_axes(model, dynamic)
    _size_outputs(model, module, inputs, next(iter(dynamic.values())))
    _strip(model)
    _share_constants(model)
    model.ir_version = IR_VERSION
    onnx.helper.set_model_props(model, dict(metadata))
    check_graph(model, inputs, outputs, dynamic)
    path.write_bytes(model.SerializeToString(deterministic=True))


def _traced(module: nn.Module, inputs: Mapping[str, torch.Tensor], outputs: Sequence[str], dynamic: Dynamic) -> onnx.ModelProto:
    """Return the module as torch exports it.

    By tracing where that works: it takes seconds where capturing the program takes a minute, and what a trace freezes (a branch taken, a
    length) is found by the parity proof. By capture otherwise, and once torch drops tracing.
    """
    example = tuple(inputs.values())
    with _quiet(), torch.no_grad():
        try:
            return _by_trace(module, example, list(inputs), list(outputs), dynamic)
        except Exception:
            try:
                return _by_capture(module, example, list(inputs), list(outputs), dynamic)
            except Exception as error:
                raise ExportError(f"{type(module).__name__} cannot be exported to ONNX opset {OPSET}: {_last_lines(error)}") from error


def _by_trace(
    module: nn.Module, example: tuple[torch.Tensor, ...], inputs: list[str], outputs: list[str], dynamic: Dynamic
) -> onnx.ModelProto:
    # Asinh is in ONNX since opset 9; torch's tracer alone does not know it.
    torch.onnx.utils.register_custom_op_symbolic("aten::asinh", lambda graph, x: graph.op("Asinh", x), OPSET)
    axes = {name: dict(free) for name, free in dynamic.items()}
    traced: Any = io.BytesIO()
    torch.onnx.export(
        module, example, traced, input_names=inputs, output_names=outputs, dynamic_axes=axes, opset_version=OPSET, dynamo=False
    )
    return onnx.load_from_string(traced.getvalue())


def _by_capture(
    module: nn.Module, example: tuple[torch.Tensor, ...], inputs: list[str], outputs: list[str], dynamic: Dynamic
) -> onnx.ModelProto:
    shapes = tuple({axis: torch.export.Dim.DYNAMIC for axis in dynamic.get(name, {})} for name in inputs)
    program: Any = torch.onnx.export(
        module, example, input_names=inputs, output_names=outputs, dynamic_shapes=shapes, opset_version=OPSET, dynamo=True, verbose=False
    )
    model: onnx.ModelProto = program.model_proto
    return model


def check_graph(
    model: onnx.ModelProto, inputs: Mapping[str, torch.Tensor] | Sequence[str], outputs: Sequence[str], dynamic: Dynamic
) -> None:
    """Raise ExportError unless the graph is valid, of the agreed opset and IR, self-contained, and has the agreed inputs, outputs and free
    axes."""
    opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
    if opsets != {"ai.onnx": OPSET} or model.functions:
        raise ExportError(f"the graph imports {opsets} and {len(model.functions)} functions; wanted ai.onnx {OPSET} alone")
    names = ([node.name for node in model.graph.input], [node.name for node in model.graph.output])
    if names != (list(inputs), list(outputs)):
        raise ExportError(f"the graph goes {names[0]} -> {names[1]}; wanted {list(inputs)} -> {list(outputs)}")
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise ExportError("the graph keeps weights in a file beside it; wanted one file")
    for value in model.graph.input:
        for axis, name in dynamic.get(value.name, {}).items():
            dim = value.type.tensor_type.shape.dim[axis]
            if not dim.dim_param:
                raise ExportError(f"axis {axis} ({name}) of {value.name} is fixed at {dim.dim_value}; make the module free of that length")
    try:
        onnx.checker.check_model(model, full_check=True)
    except Exception as error:
        raise ExportError(f"the graph is not valid ONNX: {_last_lines(error)}") from error


def _name_axes(model: onnx.ModelProto, dynamic: Dynamic) -> None:
    """Give the free axes of the inputs the names that the caller wanted, instead of s53."""
    for value in model.graph.input:
        for axis, name in dynamic.get(value.name, {}).items():
            dim = value.type.tensor_type.shape.dim[axis]
            if dim.dim_param:
                dim.dim_param = name


def _size_outputs(model: onnx.ModelProto, module: nn.Module, inputs: Mapping[str, torch.Tensor], free: Mapping[int, str]) -> None:
    """Give the outputs' axes their names and lengths, where a trace has Concatpattern_dim_1."""
    with torch.no_grad():
        answer = module(*inputs.values())
    for value, result in zip(model.graph.output, answer if isinstance(answer, tuple) else (answer,), strict=True):
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if axis in free:
                dim.dim_param = free[axis]
            else:
                dim.dim_value = result.shape[axis]


def _strip(model: onnx.ModelProto) -> None:
    """Drop what only the exporter needs: inner shapes, and notes that quote source lines and local paths."""
    del model.graph.value_info[:]
    model.doc_string = model.graph.doc_string = ""
    del model.metadata_props[:]
    for part in [model.graph, *model.graph.node, *model.graph.initializer, *model.graph.input, *model.graph.output]:
        part.doc_string = ""
        del part.metadata_props[:]


def _share_constants(model: onnx.ModelProto) -> None:
    """Keep equal constants once, as initializers: a trace repeats a grid wherever it is used. Graphs with branches are left as they are."""
    graph = model.graph
    if any(attribute.HasField("g") or attribute.graphs for node in graph.node for attribute in node.attribute):
        return
    tensors = {tensor.name: tensor for tensor in graph.initializer}
    kept = []
    for node in graph.node:
        value = {attribute.name: attribute for attribute in node.attribute}.get("value") if node.op_type == "Constant" else None
        if value is None:
            kept.append(node)
        else:
            tensors[node.output[0]] = value.t
    first: dict[tuple[int, tuple[int, ...], bytes], str] = {}
    names = {
        name: first.setdefault((t.data_type, tuple(t.dims), onnx.numpy_helper.to_array(t).tobytes()), name) for name, t in tensors.items()
    }
    results = {value.name for value in graph.output}
    if results & names.keys():
        return
    for node in kept:
        for i, name in enumerate(node.input):
            node.input[i] = names.get(name, name)
    shared = []
    for name in dict.fromkeys(names.values()):
        tensor = onnx.TensorProto()
        tensor.CopyFrom(tensors[name])
        tensor.name = name
        shared.append(tensor)
    del graph.node[:], graph.initializer[:]
    graph.node.extend(kept)
    graph.initializer.extend(shared)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Silence the exporter's progress and its warnings about itself."""
    logger = logging.getLogger("torch.onnx")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)


def _last_lines(error: BaseException) -> str:
    """Return the end of an error's text in one line; torch puts the cause last."""
    lines = [line.strip() for line in str(error).strip().splitlines() if line.strip()]
    return " | ".join(lines[-3:])[-600:] or type(error).__name__
