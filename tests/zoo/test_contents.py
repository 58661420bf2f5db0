"""Files that are not what their names say are refused by their headers, before any library opens them."""

from __future__ import annotations

import io
import pickle
import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest

from stemzoo.errors import CardError
from stemzoo.zoo import contents
from stemzoo.zoo.contents import check_content, graph_metadata


def _tensor(external: bool) -> onnx.TensorProto:
    tensor = onnx.helper.make_tensor("w", onnx.TensorProto.FLOAT, [1], np.float32(1).tobytes(), raw=True)
    if external:
        onnx.external_data_helper.set_external_data(tensor, "../secret.bin")
        tensor.ClearField("raw_data")
        tensor.data_location = onnx.TensorProto.EXTERNAL
    return tensor


def _save(path: Path, nodes: list[onnx.NodeProto], initializers: list[onnx.TensorProto] | None = None) -> None:
    value = onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [None])
    result = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None])
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", [value], [result], initializers or []))
    onnx.helper.set_model_props(model, {"key": "värde", "empty": ""})
    path.write_bytes(model.SerializeToString())


def _nested(tensor: onnx.TensorProto, depth: int) -> onnx.NodeProto:
    """A constant inside `depth` branches."""
    node = onnx.helper.make_node("Constant", [], ["y"], value=tensor)
    for _ in range(depth):
        inner = onnx.helper.make_graph([node], "inner", [], [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [None])])
        node = onnx.helper.make_node("If", ["x"], ["y"], then_branch=inner, else_branch=inner)
    return node


def test_metadata_of_a_graph_in_one_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _save(path, [_nested(_tensor(False), 2)], [_tensor(False)])
    assert graph_metadata(path) == {"key": "värde", "empty": ""}


@pytest.mark.parametrize("depth", [0, 1, 4])
def test_external_data_is_found_however_deep(tmp_path: Path, depth: int) -> None:
    path = tmp_path / "model.onnx"
    _save(path, [_nested(_tensor(True), depth)])
    with pytest.raises(CardError, match=r"model.onnx: keeps tensors in a file outside itself"):
        graph_metadata(path)


def test_external_initializer(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _save(path, [onnx.helper.make_node("Add", ["x", "w"], ["y"])], [_tensor(True)])
    with pytest.raises(CardError, match="keeps tensors in a file outside itself"):
        graph_metadata(path)


def test_a_graph_without_bottom(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    _save(path, [_nested(_tensor(False), 5)])
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CardError, match="not an ONNX graph"):
        graph_metadata(path)
    deep = b"\x08\x08"
    for _ in range(200):
        deep = b"\x3a" + len(deep).to_bytes(2, "little") if len(deep) < 128 else deep
    path.write_bytes(deep)
    with pytest.raises(CardError, match="not an ONNX graph"):
        graph_metadata(path)


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "golden.npz", "picture.png", "notes.txt"])
def test_a_pickle_in_disguise(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    for protocol in (0, 2, 5):
        path.write_bytes(pickle.dumps({"weights": np.ones(3), "code": print}, protocol=protocol))
        if (name, protocol) == ("notes.txt", 0):
            continue  # a pickle of protocol 0 is text, and text is opened by nothing
        with pytest.raises(CardError, match=name.replace(".", r"\.")):
            check_content(path)


@pytest.mark.parametrize("name", ["weights.pt", "model.pkl", "run.ckpt", "install.sh", "model"])
def test_other_kinds_of_files(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(CardError, match="never a pickle"):
        check_content(tmp_path / name)


def _zip(path: Path, name: str, content: bytes) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr(name, content)


def test_archives(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "golden.npz"
    np.savez_compressed(path, input_image_0=np.zeros((2, 3), np.float32), scalar=np.float64(1))
    check_content(path)
    np.savez(path, allow_pickle=True, objects=np.array([print, None], dtype=object))
    with pytest.raises(CardError, match=r"objects\.npy holds pickled objects"):
        check_content(path)
    buffer = io.BytesIO()
    np.save(buffer, np.zeros(4))
    for name in ("../evil.npy", "a/b.npy", "run.py"):
        _zip(path, name, buffer.getvalue())
        with pytest.raises(CardError, match="not an archive of NumPy arrays"):
            check_content(path)
    _zip(path, "short.npy", buffer.getvalue()[:-8])
    with pytest.raises(CardError, match=r"short\.npy is not as long as its header says"):
        check_content(path)
    monkeypatch.setattr(contents, "MAX_UNPACKED", 1_000_000)
    np.savez_compressed(path, bomb=np.zeros(2_000_000, np.uint8))
    assert path.stat().st_size < 10_000
    with pytest.raises(CardError, match=r"unpacks to 2,000,128 bytes; wanted at most 1,000,000"):
        check_content(path)


def test_safetensors_are_filled_to_the_byte(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    header = b'{"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}'
    whole = len(header).to_bytes(8, "little") + header + bytes(8)
    path.write_bytes(whole)
    check_content(path)
    for wrong in (whole + b"smuggled", whole[:-1], whole.replace(b"[0, 8]", b"[4, 8]")):
        path.write_bytes(wrong)
        with pytest.raises(CardError, match="not a safetensors file"):
            check_content(path)
