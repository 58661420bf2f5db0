"""Bundles: what opens, what is refused and by which words, and the golden replay."""

from __future__ import annotations

import hashlib
import pickle
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import standins

from stemzoo.errors import ModelError
from stemzoo.runtime.bundle import Bundle, ModelSpec
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.golden import compare, verify
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import SessionOptions


def test_spec_and_hash(segmenter: Segmenter, segmenter_folder: Path) -> None:
    spec = segmenter.spec
    assert (spec.id, spec.task, spec.sampling, spec.classes) == ("blob@1", "segmentation", (0.15, 0.25, 0.2), ("column",))
    assert (spec.receptive_px, spec.stride_px, spec.min_separation, spec.nominal) == (27, 4, 1.2, 0.2)
    assert segmenter.id.sha256 == hashlib.sha256((segmenter_folder / "model.onnx").read_bytes()).hexdigest()
    assert segmenter.bundle.session.provider == "CPUExecutionProvider"


@pytest.mark.parametrize("name", ["id", "sampling", "classes", "receptive_px", "stride_px"])
def test_missing_field_is_named(name: str) -> None:
    card = {key: value for key, value in standins.SEGMENTER_CARD.items() if key != name}
    with pytest.raises(ModelError, match=f"model.onnx: its card lacks {name}, which a model for segmentation needs"):
        ModelSpec.from_card(card, "model.onnx")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": "painting"}, "task 'painting'; wanted one of segmentation, encoding"),
        ({"sampling": {"min": 0.1, "max": 0.2}}, "a field of its card cannot be read .KeyError: 'nominal'"),
        ({"sampling": {"min": 0.3, "max": 0.2, "nominal": 0.25}}, "wanted 0 < min ≤ nominal ≤ max"),
        ({"threshold": "high"}, "cannot be read .ValueError"),
        ({"calibration": {"probability": [0.2, 0.9]}}, "cannot be read .KeyError: 'confidence'"),
        ({"calibration": {"probability": [0.9, 0.2], "confidence": [0.1, 0.5]}}, "calibrates 2 probabilities by 2 confidences; wanted"),
    ],
)
def test_wrong_field_is_named(change: dict, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        ModelSpec.from_card({**standins.SEGMENTER_CARD, **change}, "model.onnx")


def test_confidence_follows_the_cards_calibration() -> None:
    plain = ModelSpec.from_card(standins.SEGMENTER_CARD, "model.onnx")
    np.testing.assert_array_equal(plain.confidence(np.float32([0.3, 0.9])), np.float32([0.3, 0.9]))
    mended = ModelSpec.from_card(
        {**standins.SEGMENTER_CARD, "calibration": {"probability": [0.2, 0.6, 1.0], "confidence": [0.0, 0.8, 1.0]}}, "model.onnx"
    )
    np.testing.assert_allclose(mended.confidence(np.float32([0.1, 0.4, 0.8])), [0.0, 0.4, 0.9], atol=1e-6)


def test_wrong_task(segmenter: Segmenter, encoder: Encoder) -> None:
    with pytest.raises(ModelError, match="blob@1 is a model for segmentation; wanted one for encoding; pass another to --encoder"):
        Encoder(segmenter.bundle)
    with pytest.raises(ModelError, match="dipole@1 is a model for encoding; wanted one for segmentation; pass another to --model"):
        Segmenter(encoder.bundle)


def test_folder_refusals(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such bundle folder"):
        Bundle.load(tmp_path / "none")
    (tmp_path / "notes.txt").write_text("x")
    with pytest.raises(ModelError, match=r"not a bundle: it holds notes.txt; wanted model.onnx"):
        Bundle.load(tmp_path)


@pytest.mark.parametrize("content", [b"", b"not a model", "half"])
def test_damaged_model_is_one_message(tmp_path: Path, segmenter_folder: Path, content: bytes | str) -> None:
    whole = (segmenter_folder / "model.onnx").read_bytes()
    (tmp_path / "model.onnx").write_bytes(whole[: len(whole) // 2] if isinstance(content, str) else content)
    with pytest.raises(ModelError, match=r"not a model that onnxruntime .* can load") as caught:
        Bundle.load(tmp_path)
    assert "\n" not in str(caught.value)


def test_graph_without_card(tmp_path: Path, encoder_folder: Path) -> None:
    shutil.copy(encoder_folder / "decoder.onnx", tmp_path / "model.onnx")
    with pytest.raises(ModelError, match="carries no stemzoo_card metadata; wanted a model written by stemzoo export"):
        Bundle.load(tmp_path)


def test_model_other_than_the_card_lists(tmp_path: Path, segmenter_folder: Path) -> None:
    folder = tmp_path / "v1"
    shutil.copytree(segmenter_folder, folder)
    digest = hashlib.sha256((folder / "model.onnx").read_bytes()).hexdigest()
    front_matter = "---\nid: blob@1\nfiles:\n- name: model.onnx\n  sha256: {}\n---\n# Prose\n"
    (folder / "README.md").write_text(front_matter.format(digest))
    assert Bundle.load(folder).sha256 == digest
    (folder / "README.md").write_text(front_matter.format("0" * 64) + digest)
    with pytest.raises(ModelError, match=f"its sha256 is {digest}, which README.md does not list"):
        Bundle.load(folder)


def test_golden_replay_agrees(segmenter: Segmenter, encoder: Encoder) -> None:
    for bundle in (segmenter.bundle, encoder.bundle):
        result = verify(bundle)
        assert result.ok and result.provider == "CPUExecutionProvider"
        assert sum(check.n for check in result.checks) > 10
        assert "golden elements agree on CPUExecutionProvider" in result.summary()


def test_golden_replay_counts_and_finds_the_worst(tmp_path: Path, segmenter_folder: Path) -> None:
    folder = tmp_path / "v1"
    shutil.copytree(segmenter_folder, folder)
    with np.load(folder / "golden.npz") as archive:
        golden = dict(archive)
    golden["output_probability_1"][0, 0, 5, 7] += 0.25
    golden["output_probability_1"][0, 0, 6, 7] -= 0.01
    np.savez(folder / "golden.npz", **golden)
    result = verify(Bundle.load(folder, standins.ONE_THREAD))
    assert not result.ok
    assert [check.n_differ for check in result.checks] == [0, 2]
    assert result.checks[1].worst == pytest.approx(0.25, abs=1e-5) and result.checks[1].worst_index == (0, 0, 5, 7)
    assert (
        "2 of 4096 golden elements differ on CPUExecutionProvider; the worst by 0.25, in probability_1 at (0, 0, 5, 7)" in result.summary()
    )


def test_angle_is_compared_on_the_circle(tmp_path: Path, encoder_folder: Path) -> None:
    folder = tmp_path / "v1"
    shutil.copytree(encoder_folder, folder)
    with np.load(folder / "golden.npz") as archive:
        golden = dict(archive)
    golden["output_angle_0"] = golden["output_angle_0"] - np.float32(2 * np.pi)
    np.savez(folder / "golden.npz", **golden)
    assert verify(Bundle.load(folder, standins.ONE_THREAD)).ok


@pytest.mark.parametrize("kept, said", [("input", "holds no output for case 0 of"), ("neither", "holds no input_…/output_… arrays")])
def test_golden_tensors_that_prove_nothing(tmp_path: Path, segmenter_folder: Path, kept: str, said: str) -> None:
    folder = shutil.copytree(segmenter_folder, tmp_path / "b")
    with np.load(folder / "golden.npz") as archive:
        np.savez(folder / "golden.npz", other=np.zeros(3), **{name: array for name, array in archive.items() if name.startswith(kept)})
    with pytest.raises(ModelError, match=f"golden.npz: {said}"):
        verify(Bundle.load(folder))


def test_missing_or_damaged_golden(tmp_path: Path, segmenter_folder: Path) -> None:
    shutil.copy(segmenter_folder / "model.onnx", tmp_path / "model.onnx")
    bundle = Bundle.load(tmp_path)
    with pytest.raises(ModelError, match=r"golden.npz: missing, so the model cannot prove itself"):
        verify(bundle)
    (tmp_path / "golden.npz").write_bytes(b"PK\x03\x04 broken")
    with pytest.raises(ModelError, match=r"golden.npz: cannot be read"):
        verify(bundle)


def test_missing_provider_is_reported(segmenter_folder: Path) -> None:
    bundle = Bundle.load(segmenter_folder, SessionOptions(providers=("cuda",)))
    if bundle.session.provider == "CPUExecutionProvider":
        assert any("CUDAExecutionProvider" in notice for notice in bundle.session.notices)
    with pytest.raises(ModelError, match="execution provider 'abacus' is unknown; wanted one of cpu, cuda"):
        SessionOptions(providers=("abacus",))


def test_wrong_input_is_one_message(segmenter: Segmenter) -> None:
    with pytest.raises(ModelError, match=r"got the inputs \['picture'\]; the graph wants \['image'\]"):
        segmenter.bundle.session.run({"picture": np.zeros((1, 1, 8, 8), np.float32)})
    with pytest.raises(ModelError, match="the network cannot run on"):
        segmenter.bundle.session.run({"image": np.zeros((8, 8), np.float32)})


def test_bundle_travels_to_another_process(segmenter: Segmenter) -> None:
    twin = pickle.loads(pickle.dumps(segmenter.bundle))
    assert twin.id == segmenter.bundle.id and twin.options == segmenter.bundle.options


def test_an_angles_error_is_replayed_to_three_digits_and_all_else_as_the_card_says(encoder: Encoder) -> None:
    spec = replace(encoder.spec, golden_atol=1e-7)
    wanted = np.array([0.08])
    assert compare("angle_sigma_0", wanted * 1.0006, wanted, spec).n_differ == 0
    assert compare("angle_sigma_0", wanted * 1.003, wanted, spec).n_differ == 1
    assert compare("latents_0", wanted * 1.0006, wanted, spec).n_differ == 1


def test_the_error_of_an_angle_that_is_hardly_known_counts_by_its_width(encoder: Encoder) -> None:
    """Torch and onnxruntime give 0.83167 and 0.83269 for a pattern of an encoder that has seen little: it can be published all the same."""
    wanted = np.array([0.83167])
    assert compare("angle_sigma_0", np.array([0.83269]), wanted, encoder.spec).n_differ == 0
    assert compare("angle_sigma_0", wanted * 1.02, wanted, encoder.spec).n_differ == 1


def test_an_angle_counts_by_its_own_error_and_its_symmetry(encoder: Encoder) -> None:
    spec = encoder.spec
    wanted = np.array([0.1, 0.2, 0.3], np.float32)
    beside = {"symmetry": np.array([1, 2, 4]), "angle_sigma": np.array([0.5, 0.001, np.nan], np.float32)}
    turned = wanted + np.array([0.004, np.pi, np.pi / 2], np.float32)
    assert compare("angle_0", turned, wanted, spec, beside).n_differ == 0
    assert compare("angle_0", turned + 0.002, wanted, spec, beside).n_differ == 3
    assert compare("angle_0", wanted + 0.004, wanted, spec).n_differ == 3
