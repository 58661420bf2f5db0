"""The exported graphs: angle, error and offset of patterns that are known, without training; parity with onnxruntime."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from stemzoo.export.onnx import export_graph
from stemzoo.nets.condensed import Condensed
from stemzoo.nets.graphs import DecoderGraph, EncoderGraph
from stemzoo.nets.polar import PolarRVAE
from stemzoo.nets.rvae import RVAE
from stemzoo.simulation.motifs import MOTIFS, Recording, record

STILL = Recording(disorder=0.0, offset_px=0.0, turn=0.0, dose=1e6)


def errors(found: np.ndarray, truth: np.ndarray, fold: int) -> np.ndarray:
    """Angle errors [rad] with their common offset, the gauge's, taken out."""
    turn = np.exp(1j * fold * (found - truth))
    return np.angle(turn / turn.mean()) / fold


@pytest.mark.parametrize("motif", range(4))
def test_angles_of_a_known_pattern_reach_the_shot_noise(knows, motif):
    net = knows(motif)
    truth = record(400, 1, Recording(disorder=0.0), (MOTIFS[motif],))
    with torch.no_grad():
        angle, sigma, symmetry, _ = EncoderGraph(net)(torch.from_numpy(truth.images))
    assert (symmetry == MOTIFS[motif].fold).all()
    error = errors(angle.double().numpy(), truth.angle, MOTIFS[motif].fold)
    assert np.degrees(np.median(np.abs(error))) < 0.2
    assert 0.6 < np.median(np.abs(error)) * 1.4826 / np.median(sigma.numpy()) < 1.6
    period = 2 * np.pi / MOTIFS[motif].fold
    assert (np.abs(angle.numpy()) <= period / 2 + 1e-5).all()


def test_offset_of_a_known_pattern(knows):
    net = knows(1)
    truth = record(300, 2, Recording(disorder=0.0), (MOTIFS[1],))
    with torch.no_grad():
        seen = Condensed(net).look(torch.from_numpy(truth.images))
    found = (seen.peak.offset + seen.step).numpy()[:, ::-1]
    assert np.sqrt(((found - truth.offset) ** 2).mean()) < 0.1


def test_turning_a_sub_image_counter_clockwise_raises_the_angle(knows):
    net = knows(1)
    images = record(50, 3, Recording(disorder=0.0), (MOTIFS[1],)).images
    graph = EncoderGraph(net)
    with torch.no_grad():
        before, after = (graph(torch.from_numpy(x.copy()))[0].numpy() for x in (images, np.rot90(images, axes=(1, 2))))
    turned = np.angle(np.exp(1j * (after - before)))
    assert np.degrees(np.abs(turned - np.pi / 2)).max() < 1.0


def test_the_reference_lies_on_the_sub_image_after_turning_by_the_angle(knows):
    net = knows(1)
    images = torch.from_numpy(record(40, 4, Recording(disorder=0.0, offset_px=0.0, dose=2000.0), (MOTIFS[1],)).images / 10)
    with torch.no_grad():
        angle, _, _, latents = EncoderGraph(net)(images)
        drawn = DecoderGraph(net)(latents, angle)
        misfit = (drawn - net.normalise(images)).square().mean()
        wrong = (DecoderGraph(net)(latents, angle + 0.3) - net.normalise(images)).square().mean()
    assert misfit < 0.03 < 0.1 < wrong


def test_noise_without_pattern_has_no_angle():
    torch.manual_seed(0)
    net = PolarRVAE(32).eval()
    with torch.no_grad():
        net.pattern.weight.zero_()
        net.pattern.bias.zero_()
        net.log_noise.zero_()
        _, sigma, symmetry, _ = EncoderGraph(net)(torch.randn(20, 32, 32))
    assert (symmetry == 1).all()
    assert sigma.numpy() == pytest.approx(math.pi / math.sqrt(3), rel=0.02)


def network(form: str, knows) -> PolarRVAE | RVAE:
    """A network of a form with weights that do something."""
    torch.manual_seed(1)
    if form == "polar":
        return knows(2)
    if form == "per image":
        return PolarRVAE(21, latents=3, per_image=True).eval()
    return RVAE(21, latents=3, translation=True, likelihood="bce").eval()


@pytest.mark.parametrize("form", ["polar", "per image", "published"])
def test_onnxruntime_agrees_with_torch(knows, form, tmp_path):
    net = network(form, knows)
    onnxruntime = pytest.importorskip("onnxruntime")
    size = net.window_px
    images = record(7, 5, Recording(window_px=size)).images
    encoder, decoder = EncoderGraph(net).eval(), DecoderGraph(net).eval()
    latents, angle = torch.randn(7, net.latents), torch.linspace(-3, 3, 7)
    outputs = ["angle", "angle_sigma", "symmetry", "latents"]
    export_graph(encoder, {"subimages": torch.from_numpy(images)}, outputs, {"subimages": {0: "batch"}}, tmp_path / "e.onnx", {})
    dynamic = {"latents": {0: "batch"}, "angle": {0: "batch"}}
    export_graph(decoder, {"latents": latents, "angle": angle}, ["pattern"], dynamic, tmp_path / "d.onnx", {})
    encode, decode = (onnxruntime.InferenceSession(str(tmp_path / f)) for f in ("e.onnx", "d.onnx"))
    for n in (1, 7):
        with torch.no_grad():
            wanted = encoder(torch.from_numpy(images[:n]))
            drawn = decoder(latents[:n], angle[:n])
        found = encode.run(outputs, {"subimages": images[:n]})
        for a, b in zip(found, wanted, strict=True):
            assert a.dtype == b.numpy().dtype
            assert a == pytest.approx(b.numpy(), abs=1e-4)
        assert decode.run(None, {"latents": latents[:n].numpy(), "angle": angle[:n].numpy()})[0] == pytest.approx(drawn.numpy(), abs=1e-4)
