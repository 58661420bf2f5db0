"""Weights of AtomAI and AICrystallographer: unchanged in what they compute, opened without running code, or refused with the reason."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from stemzoo.errors import ModelError
from stemzoo.export.atomai import Origin, import_atomai, load_safely, rvae_of
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.golden import verify
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.zoo.card import read_card

ORIGIN = Origin(sampling=0.1, name="theirs")


def convolution(state: dict[str, Tensor], name: str, outputs: int, inputs: int, size: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    state[f"{name}.weight"] = torch.randn(outputs, inputs, size, size, generator=generator) / (inputs * size * size) ** 0.5
    state[f"{name}.bias"] = 0.1 * torch.randn(outputs, generator=generator)


def unet_state(classes: int = 1, width: int = 2) -> dict[str, Tensor]:
    """Weights of AtomAI's Unet without normalisation, layers 1, 2, 2, 3."""
    state: dict[str, Tensor] = {}
    blocks = {"c1": (1, 1, 1), "c2": (2, 1, 2), "c3": (2, 2, 4), "bn": (3, 4, 8), "c4": (2, 8, 4), "c5": (2, 4, 2), "c6": (1, 2, 1)}
    for name, (depth, inputs, outputs) in blocks.items():
        for layer in range(depth):
            before = outputs * width if layer else (1 if name == "c1" else inputs * width)
            convolution(state, f"{name}.block.{2 * layer}", outputs * width, before, 3, len(state))
    for name, factor in (("upsample_block1", 4), ("upsample_block2", 2), ("upsample_block3", 1)):
        convolution(state, f"{name}.conv", factor * width, 2 * factor * width, 1, len(state))
    convolution(state, "px", classes, width, 1, 99)
    return state


def unet_reference(state: dict[str, Tensor], image: Tensor, *, dilated: bool = False) -> Tensor:
    """The same network, written down once more from its description; `dilated`: with AICrystallographer's bottom."""

    def block(name: str, x: Tensor) -> Tensor:
        total: Tensor | int = 0
        for layer in range(3):
            if f"{name}.block.{2 * layer}.weight" in state:
                weight, bias = (state[f"{name}.block.{2 * layer}.{part}"] for part in ("weight", "bias"))
                reach = 2 * layer + 2 if dilated and name == "bn" else 1
                y = F.conv2d(x, weight, bias, padding=reach, dilation=reach)
                x = F.leaky_relu(y, 0.01)
                total = total + 2 * y + x  # dropout at rest hands through, and is summed like any layer
        return torch.as_tensor(total) if dilated and name == "bn" else x

    def up(number: int, x: Tensor) -> Tensor:
        weight, bias = (state[f"upsample_block{number}.conv.{part}"] for part in ("weight", "bias"))
        return F.conv2d(F.interpolate(x, scale_factor=2, mode="bilinear"), weight, bias)

    x = (image - image.min()) / (image.max() - image.min())
    c1 = block("c1", x)
    c2 = block("c2", F.max_pool2d(c1, 2))
    c3 = block("c3", F.max_pool2d(c2, 2))
    x = block("bn", F.max_pool2d(c3, 2))
    x = block("c4", torch.cat([c3, up(1, x)], 1))
    x = block("c5", torch.cat([c2, up(2, x)], 1))
    x = block("c6", torch.cat([c1, up(3, x)], 1))
    return F.conv2d(x, state["px.weight"], state["px.bias"])


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).poisson(100, (64, 64)).astype(np.float32)


@pytest.mark.parametrize("classes", [1, 3])
def test_a_segmentor_computes_what_it_computed(tmp_path: Path, image: np.ndarray, classes: int) -> None:
    state = unet_state(classes)
    optimiser = torch.optim.Adam([torch.nn.Parameter(torch.ones(2))])
    stated = {"model_type": "seg", "model": "Unet", "nb_classes": classes, "batch_norm": False, "dropout": False, "upsampling": "bilinear"}
    torch.save({**stated, "weights": state, "optimizer": optimiser}, tmp_path / "net.tar")
    card = import_atomai(tmp_path / "net.tar", tmp_path / "theirs" / "v1", ORIGIN)
    bundle = Bundle.load(tmp_path / "theirs" / "v1")
    logits = unet_reference(state, torch.from_numpy(image)[None, None])
    wanted = torch.sigmoid(logits) if classes == 1 else torch.softmax(logits, 1)[:, :-1]
    found = bundle.session.run({"image": image[None, None]})["probability"]
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-5)
    assert card.classes == (("column",) if classes == 1 else ("class-1", "class-2"))
    assert (card.stride_px, card.sampling.nominal, card.licence) == (8, 0.1, "unstated")
    assert verify(bundle).ok and read_card(tmp_path / "theirs" / "v1")[0] == card
    assert Segmenter(bundle).probabilities(image).shape == (max(classes - 1, 1), 64, 64)


@pytest.mark.parametrize("classes", [1, 3])
def test_aicrystallographer_computes_what_it_computed(tmp_path: Path, image: np.ndarray, classes: int) -> None:
    """A bare state_dict of 2019, in torch's format of then: blocks of blocks, a dilated bottom with dropout in between, transposed
    convolutions that nobody used, and names as two GPUs leave them."""
    state = unet_state(classes)
    old = {}
    for name, value in state.items():
        block, _, rest = name.partition(".block.")
        if rest and block in ("c2", "c3", "c4", "c5"):
            name = f"{block}.{int(rest[0]) // 2}.block.0{rest[1:]}"
        elif block == "bn":
            name = f"bn.atrous_module.{3 * (int(rest[0]) // 2)}{rest[1:]}"
        old[f"module.{name}"] = value
    for number, width in ((1, 8), (2, 4), (3, 2)):
        old[f"module.upsample_block{number}.conv_t.weight"] = torch.ones(2 * width, width, 2, 2)
        old[f"module.upsample_block{number}.conv_t.bias"] = torch.ones(width)
    torch.save(old, tmp_path / "weights.pt", _use_new_zipfile_serialization=False)
    card = import_atomai(tmp_path / "weights.pt", tmp_path / "theirs" / "v1", ORIGIN)
    logits = unet_reference(state, torch.from_numpy(image)[None, None], dilated=True)
    wanted = torch.sigmoid(logits) if classes == 1 else torch.softmax(logits, 1)[:, :-1]
    found = Bundle.load(tmp_path / "theirs" / "v1").session.run({"image": image[None, None]})["probability"]
    np.testing.assert_allclose(found, wanted.numpy(), atol=2e-5)
    assert card.title == "AtomAI segmentor (Unet)" and len(card.classes) == max(classes - 1, 1)


def rvae_state(side: int, latents: int, coordinates: int, width: int = 8) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    generator = torch.Generator().manual_seed(3)

    def linear(outputs: int, inputs: int) -> Tensor:
        return torch.randn(outputs, inputs, generator=generator) / inputs**0.5

    encoder = {"dense.0.weight": linear(width, side**2), "dense.2.weight": linear(width, width)}
    encoder |= {"fc11.weight": linear(latents + coordinates, width), "fc12.weight": linear(latents + coordinates, width)}
    decoder = {"coord_latent.fc_coord.weight": 3 * linear(width, 2), "fc_decoder.0.weight": linear(width, width)}
    decoder |= {"fc_decoder.2.weight": linear(width, width), "out.weight": linear(1, width)}
    for part in (encoder, decoder):
        part |= {name.replace("weight", "bias"): torch.randn(len(value), generator=generator) for name, value in part.items()}
    decoder["coord_latent.fc_latent.weight"] = linear(width, latents)
    return encoder, decoder


def rvae_reference(decoder: dict[str, Tensor], side: int, latents: Tensor, angle: float) -> Tensor:
    """A pattern as AtomAI's spatial decoder draws it: coordinates (row, -column), turned by its rotation matrix."""
    rows, columns = torch.meshgrid(torch.linspace(-1, 1, side), torch.linspace(1, -1, side), indexing="ij")
    c, s = np.cos(angle), np.sin(angle)
    grid = torch.stack([rows.flatten(), columns.flatten()], 1) @ torch.tensor([[c, s], [-s, c]], dtype=torch.float32)
    x = F.linear(grid, decoder["coord_latent.fc_coord.weight"], decoder["coord_latent.fc_coord.bias"])
    x = torch.tanh(x + F.linear(latents, decoder["coord_latent.fc_latent.weight"]))
    for layer in (0, 2):
        x = torch.tanh(F.linear(x, decoder[f"fc_decoder.{layer}.weight"], decoder[f"fc_decoder.{layer}.bias"]))
    return F.linear(x, decoder["out.weight"], decoder["out.bias"]).reshape(side, side)


@pytest.mark.parametrize("coordinates", [1, 3])
def test_an_rvae_computes_what_it_computed(tmp_path: Path, coordinates: int) -> None:
    side, latents = 12, 2
    encoder, decoder = rvae_state(side, latents, coordinates)
    stated = {"model_type": "vae", "in_dim": (side, side), "latent_dim": latents, "coord": coordinates, "skip": False, "nb_classes": 0}
    torch.save({**stated, "encoder": encoder, "decoder": decoder, "sigmoid_out": False}, tmp_path / "rvae.tar")
    import_atomai(tmp_path / "rvae.tar", tmp_path / "theirs" / "v1", Origin(sampling=0.2, name="theirs", intensity=(10.0, 60.0)))
    loaded = Encoder(Bundle.load(tmp_path / "theirs" / "v1"))
    raw = np.random.default_rng(0).uniform(10, 60, (5, side, side)).astype(np.float32)
    x = torch.from_numpy((raw - 10) / 50).flatten(1)
    for name in ("dense.0", "dense.2"):
        x = torch.tanh(F.linear(x, encoder[f"{name}.weight"], encoder[f"{name}.bias"]))
    mean = F.linear(x, encoder["fc11.weight"], encoder["fc11.bias"]).numpy()
    found = loaded.bundle.session.run({"subimages": raw})
    np.testing.assert_allclose(found["latents"], mean[:, coordinates:], atol=1e-4)
    np.testing.assert_allclose(np.exp(1j * found["angle"]), np.exp(1j * mean[:, 0]), atol=1e-4)
    code = torch.tensor([0.4, -1.1])
    for angle in (0.0, 0.7, -2.5):
        drawn = loaded.bundle.decoder.run({"latents": code[None].numpy(), "angle": np.array([angle], np.float32)})["pattern"][0]
        np.testing.assert_allclose(drawn, rvae_reference(decoder, side, code, angle).numpy(), atol=1e-4)


def test_the_published_form_minimises_what_atomai_minimises() -> None:
    """Weights, batch and noise of AtomAI 0.8.1, and its loss, misfit, divergences and gradient: scripts/compare_published.py --golden."""
    held = np.load(Path(__file__).parents[1] / "data" / "atomai_rvae.npz")
    parts = [{k.removeprefix(f"{part}."): torch.from_numpy(held[k]) for k in held if k.startswith(part)} for part in ("encoder", "decoder")]
    net = rvae_of({"model_type": "vae", "encoder": parts[0], "decoder": parts[1]}, rotation_sigma=float(held["prior"]))
    bound = net.bound(torch.from_numpy(held["images"]), torch.from_numpy(held["noise"]))
    found = torch.stack([part.mean() for part in bound])
    found.sum().backward()
    gradient = torch.cat([p.grad.flatten() for p in net.parameters() if p.grad is not None]).norm()
    np.testing.assert_allclose([found.sum().item(), *found.tolist(), gradient.item()], held["numbers"], rtol=2e-6)


class Evil:
    def __reduce__(self) -> tuple[Any, ...]:
        return (Path.touch, (Path("/tmp/stemzoo-import-ran"),))


def test_no_code_of_a_file_runs(tmp_path: Path) -> None:
    path = tmp_path / "net.tar"
    torch.save({"model_type": "seg", "weights": unet_state(), "extra": Evil()}, path)
    with pytest.raises(ModelError, match=r"net.tar: holds more than weights, .*it wants to run"):
        load_safely(path)
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(ModelError, match=r"net.tar: holds more than weights"):
        load_safely(path)
    assert not Path("/tmp/stemzoo-import-ran").exists()
    torch.save([1, 2], path)
    with pytest.raises(ModelError, match="holds a list; wanted AtomAI's dictionary"):
        load_safely(path)


def _spoilt(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    encoder, decoder = rvae_state(12, 2, 3)
    content = {"model_type": "vae", "encoder": encoder, "decoder": decoder}
    change(content)
    return content


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"model_type": "imspec", "weights": {}}, "a model of type 'imspec' has no counterpart here"),
        (
            {"model_type": "seg", "model": "custom", "weights": unet_state()},
            "a network 'custom' with 'bilinear' upsampling; known are Unet",
        ),
        ({"some.weight": torch.ones(1)}, "weights of some are of no network that is known here"),
        (
            {"conv_in.0.weight": torch.ones(1), "res_module.0.c0.weight": torch.ones(1)},  # AICrystallographer's finder of defects
            "weights of conv_in, res_module are of no network that is known here: Unet, dilnet, SegResNet, ResHedNet",
        ),
        ({"weights": {0: {"a": torch.ones(1)}}}, "of an ensemble, save one member"),
        ({key: value for key, value in unet_state().items() if not key.startswith("c6")}, "the weights do not fit a SegResNet"),
        ({**unet_state(), "extra.weight": torch.ones(1)}, "the weights do not fit a Unet: extra.weight has no place"),
        (_spoilt(lambda content: content.update(skip=True)), "its decoder has skip connections"),
        (_spoilt(lambda content: content.update(nb_classes=3)), "it is conditioned on classes"),
        (_spoilt(lambda content: content.update(softplus_out=True)), "its spreads go through a softplus"),
        (_spoilt(lambda content: content.pop("model_type")), "an rVAE's weights alone do not say which network they are of"),
        (_spoilt(lambda content: content["encoder"].update({"conv.block.0.weight": torch.ones(1)})), "its encoder is convolutional"),
        (_spoilt(lambda content: content["decoder"].pop("fc_decoder.2.weight")), "2 layers in the encoder and 1 in the decoder"),
    ],
)
def test_what_does_not_fit_is_said(tmp_path: Path, content: dict[str, Any], message: str) -> None:
    path = tmp_path / "net.tar"
    torch.save(copy.deepcopy(content), path)
    with pytest.raises(ModelError) as caught:
        import_atomai(path, tmp_path / "theirs" / "v1", ORIGIN)
    assert message in str(caught.value) and str(caught.value).endswith("nothing was written")
    assert not (tmp_path / "theirs").exists()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # AtomAI's own, of which there are many
def test_beside_atomai_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where AtomAI is installed: what it predicts and encodes, and what the imported bundle does."""
    if not hasattr(np, "product"):
        monkeypatch.setattr(np, "product", np.prod, raising=False)  # AtomAI 0.8.1 was written for NumPy 1
    aoi = pytest.importorskip("atomai")
    monkeypatch.chdir(tmp_path)
    frame = np.random.default_rng(1).random((64, 64)).astype(np.float32)
    kinds = [("Unet", 1, {}), ("Unet", 3, {"with_dilation": True, "dropout": True}), ("dilnet", 1, {"dropout": True})]
    for number, (form, classes, settings) in enumerate([*kinds, ("SegResNet", 1, {}), ("ResHedNet", 3, {"upsampling": "nearest"})]):
        theirs = aoi.models.Segmentor(form, nb_classes=classes, nb_filters=4, **settings)
        for module in theirs.net.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                torch.nn.init.uniform_(module.running_var, 0.5, 2.0)
        theirs.predict(frame[None], verbose=False)  # the first one runs the network in training, and so changes it
        torch.save({**theirs.meta_state_dict, "weights": theirs.net.state_dict()}, "net.tar")
        import_atomai(Path("net.tar"), tmp_path / f"net-{number}", ORIGIN)
        found = Bundle.load(tmp_path / f"net-{number}").session.run({"image": frame[None, None]})["probability"]
        wanted = theirs.predict(frame[None], verbose=False)[0][..., : max(classes - 1, 1)]
        np.testing.assert_allclose(found, np.moveaxis(wanted, -1, 1), atol=5e-5, err_msg=form)
    images = np.random.default_rng(2).random((20, 16, 16)).astype(np.float32)
    theirs = aoi.models.rVAE((16, 16), latent_dim=2)
    theirs.fit(images, training_cycles=1, batch_size=10)
    theirs.save_model("rvae")
    import_atomai(Path("rvae.tar"), tmp_path / "rvae", ORIGIN)
    bundle = Bundle.load(tmp_path / "rvae")
    mean, _ = theirs.encode(images)
    np.testing.assert_allclose(bundle.session.run({"subimages": images})["latents"], mean[:, 3:], atol=1e-4)
    code = np.array([[0.3, -0.7]], np.float32)
    drawn = bundle.decoder.run({"latents": code, "angle": np.zeros(1, np.float32)})["pattern"]
    np.testing.assert_allclose(drawn, theirs.decode(code), atol=1e-4)
