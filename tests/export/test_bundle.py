"""From a network to a bundle that runs, proves itself and holds the weights to train on; anything less is refused and leaves nothing."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from safetensors import safe_open
from torch import nn

import stemzoo.export.bundle as bundle_module
from stemzoo.errors import CardError, ExportError, OutputError
from stemzoo.export.bundle import seal, write_bundle
from stemzoo.export.cases import cases_for
from stemzoo.export.parity import check_parity, references
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.golden import verify
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import SessionOptions
from stemzoo.types import SubImages
from stemzoo.zoo.card import read_card
from stemzoo.zoo.check import check_files, check_metadata

ONE = SessionOptions(threads=1)


def test_segmenter_bundle(published: tuple[Path, nn.Module]) -> None:
    folder, network = published
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "golden.npz", "model.onnx", "weights.safetensors"]
    assert [path.name for path in folder.parent.iterdir()] == ["v1"]
    card, prose = read_card(folder)
    assert "stemzoo analyze FRAME --model blur@1" in prose and "0.1–0.3 Å/px" in prose
    assert card.parameters == sum(p.numel() for p in network.parameters())
    check_files(card, folder)
    bundle = Bundle.load(folder, ONE)
    check_metadata(card, dict(bundle.spec.card), "model.onnx")
    assert verify(bundle).ok
    image = np.random.default_rng(0).poisson(100, (61, 50)).astype(np.float32)
    padded = np.pad(image, ((0, 3), (0, 2)), mode="reflect")
    with torch.no_grad():
        wanted = network(torch.from_numpy(padded)[None, None])[0, :, :61, :50].numpy()
    np.testing.assert_allclose(Segmenter(bundle).probabilities(image), wanted, atol=1e-5)


def test_the_same_weights_are_the_same_bytes(published: tuple[Path, nn.Module]) -> None:
    folder, _ = published
    data = (folder / "weights.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    assert length % 8 == 0 and list(header) == sorted(header) and list(header["__metadata__"]) == sorted(header["__metadata__"])


def test_golden_tensors_are_two_sizes_of_the_networks_own_output(published: tuple[Path, nn.Module]) -> None:
    folder, network = published
    with np.load(folder / "golden.npz") as golden:
        shapes = [golden[f"input_image_{k}"].shape for k in (0, 1)]
        assert shapes[0] != shapes[1] and shapes[0][0] != shapes[1][0]
        for k in (0, 1):
            with torch.no_grad():
                wanted = network(torch.from_numpy(golden[f"input_image_{k}"])).numpy()
            np.testing.assert_allclose(golden[f"output_probability_{k}"], wanted, atol=1e-6)
            assert wanted.std() > 1e-3


def test_a_folder_that_does_not_reproduce_its_golden_tensors_is_no_bundle(tmp_path: Path, published: tuple[Path, nn.Module]) -> None:
    folder, _ = published
    work = tmp_path / "work"
    shutil.copytree(folder, work)
    (work / "README.md").unlink()
    with np.load(folder / "golden.npz") as golden:
        changed = {name: array + 0.01 if name == "output_probability_1" else array for name, array in golden.items()}
    np.savez(work / "golden.npz", **changed)
    with pytest.raises(ExportError, match=r"elements differ on \S+; the worst by 0\.01, in probability_1"):
        seal(work, read_card(folder)[0])


def test_encoder_bundle_with_decoder(tmp_path: Path, encoder_modules: dict[str, nn.Module], encoder_draft: dict[str, Any]) -> None:
    card = write_bundle(tmp_path / "b", encoder_modules, encoder_draft)
    assert {file.name for file in card.files} == {"decoder.onnx", "golden.npz", "model.onnx", "weights.safetensors"}
    check_files(card, tmp_path / "b")
    bundle = Bundle.load(tmp_path / "b", ONE)
    replay = verify(bundle)
    assert replay.ok and {check.array for check in replay.checks} >= {"angle_0", "latents_1", "decoder_pattern_0"}
    encoder = Encoder(bundle)
    y, x = np.mgrid[:16, :16] - 7.5
    angles = np.array([0.4, 2.0, -2.5])
    data = np.stack([20 + 100 * np.exp(-((x - 3 * np.cos(a)) ** 2 + (y + 3 * np.sin(a)) ** 2) / 4) for a in angles]).astype(np.float32)
    encoding = encoder.encode(SubImages(data, np.zeros(3, int), np.arange(3), np.ones(3, bool)))
    np.testing.assert_allclose(encoding.angle, angles, atol=0.03)
    with torch.no_grad():
        pattern = encoder_modules["decoder"](torch.from_numpy(encoding.latents), torch.from_numpy(angles.astype(np.float32))).numpy()
    np.testing.assert_allclose(encoder.decode(encoding.latents, angles), pattern, atol=1e-5)


def test_weights_can_be_trained_on(published: tuple[Path, nn.Module]) -> None:
    folder, network = published
    with safe_open(str(folder / "weights.safetensors"), framework="pt") as file:
        state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        assert json.loads(file.metadata()["config"]) == {"widths": [4]}
    twin = type(network)()
    twin.load_state_dict(state)
    image = torch.rand(1, 1, 16, 16) * 100
    with torch.no_grad():
        torch.testing.assert_close(twin.eval()(image), network(image))


def test_perturbed_graph_fails_the_export(
    tmp_path: Path, segmenter_modules: dict[str, nn.Module], segmenter_draft: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousandth on one weight of the head is found, and nothing is left where the bundle would have been."""
    whole = bundle_module.export_graph

    def perturbed(module: nn.Module, inputs: Any, outputs: Any, dynamic: Any, path: Path, metadata: Any) -> None:
        whole(module, inputs, outputs, dynamic, path, metadata)
        model = onnx.load(path)
        (head,) = (tensor for tensor in model.graph.initializer if tensor.name == "head.weight")
        values = numpy_helper.to_array(head).copy()
        values.flat[0] += 2e-2
        head.CopyFrom(numpy_helper.from_array(values, head.name))
        onnx.save(model, str(path))

    monkeypatch.setattr(bundle_module, "export_graph", perturbed)
    with pytest.raises(
        ExportError, match=r"model.onnx, case 0 \(image \(2, 1, 48, 96\)\): \d+ of 18432 elements of probability differ .* the worst by"
    ):
        write_bundle(tmp_path / "zoo" / "blur" / "v1", segmenter_modules, segmenter_draft)
    assert list((tmp_path / "zoo" / "blur").iterdir()) == []


def test_a_branch_frozen_by_tracing_fails_the_export(tmp_path: Path, segmenter_draft: dict[str, Any]) -> None:
    class Moody(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            scale = 300 if image.shape[0] == 2 else 200
            return torch.sigmoid(image / scale).expand(-1, 2, -1, -1)

    with pytest.raises(ExportError, match=r"case 1 \(image \(1, 1, 96, 48\)\): \d+ of 9216 elements of probability differ"):
        write_bundle(tmp_path / "b", {"model": Moody()}, segmenter_draft)
    assert list(tmp_path.iterdir()) == []


def test_network_that_gives_nonsense_is_refused(
    tmp_path: Path, segmenter_modules: dict[str, nn.Module], segmenter_draft: dict[str, Any]
) -> None:
    with torch.no_grad():
        segmenter_modules["model"].head.bias.fill_(float("nan"))  # type: ignore[union-attr, operator]
    with pytest.raises(ExportError, match="the network itself gives probability that is not finite; check the checkpoint"):
        write_bundle(tmp_path / "b", segmenter_modules, segmenter_draft)
    assert list(tmp_path.iterdir()) == []


def test_a_taken_folder_is_left_alone(tmp_path: Path, segmenter_modules: dict[str, nn.Module], segmenter_draft: dict[str, Any]) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="already there; a published version never changes: raise the version or name another --out"):
        write_bundle(tmp_path / "b", segmenter_modules, segmenter_draft)
    assert (tmp_path / "b" / "thesis.txt").read_text() == "mine"


def test_folder_of_another_version_is_refused(
    tmp_path: Path, segmenter_modules: dict[str, nn.Module], segmenter_draft: dict[str, Any]
) -> None:
    with pytest.raises(OutputError, match=r"the card is of blur@1; in a zoo its folder is blur/v1"):
        write_bundle(tmp_path / "blur" / "v2", segmenter_modules, segmenter_draft)


def test_parent_that_is_a_file(tmp_path: Path, segmenter_modules: dict[str, nn.Module], segmenter_draft: dict[str, Any]) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"):
        write_bundle(tmp_path / "file" / "b", segmenter_modules, segmenter_draft)


def test_incomplete_draft(tmp_path: Path, segmenter_modules: dict[str, nn.Module], segmenter_draft: dict[str, Any]) -> None:
    with pytest.raises(CardError, match="card draft of blur@1: a model for segmentation needs threshold"):
        write_bundle(tmp_path / "b", segmenter_modules, {**segmenter_draft, "threshold": None})
    with pytest.raises(CardError, match="key 'name' is missing"):
        write_bundle(tmp_path / "b", segmenter_modules, {key: value for key, value in segmenter_draft.items() if key != "name"})
    assert list(tmp_path.iterdir()) == []


def test_network_and_contract_must_agree(published: tuple[Path, nn.Module]) -> None:
    folder, network = published
    cases = cases_for(read_card(folder)[0])
    with pytest.raises(ExportError, match=r"Blur, case 0 .*: the network returns 1 tensors; wanted 2: probability, offset"):
        references(network, cases, ["probability", "offset"])

    class Stubborn(nn.Module):
        def forward(self, image: torch.Tensor) -> torch.Tensor:
            return image.reshape(2, 1, 48, 96)

    with pytest.raises(ExportError, match=r"Stubborn, case 2 \(image \(1, 1, 48, 48\)\): the network itself cannot take it"):
        references(Stubborn(), [cases[0], cases[0], cases[2]], ["probability"])


def test_a_graph_that_takes_less_than_its_network_is_refused(published: tuple[Path, nn.Module]) -> None:
    folder, _ = published
    odd = [{"image": np.ones((1, 3, 48, 48), np.float32)}]
    with pytest.raises(ExportError, match="the network takes it, the graph does not"):
        check_parity(folder / "model.onnx", odd, [{"probability": np.ones(1)}], Bundle.load(folder, ONE).spec)


def test_cases_look_like_columns(published: tuple[Path, nn.Module]) -> None:
    card, _ = read_card(published[0])
    cases = cases_for(card)
    assert len({case["image"].shape for case in cases}) == 4 and len({case["image"].shape[0] for case in cases}) >= 2
    for case in cases:
        image = case["image"]
        assert image.dtype == np.float32 and (image >= 0).all() and image.max() > 5 * np.median(image)
    np.testing.assert_array_equal(cases[0]["image"], cases_for(card)[0]["image"])
