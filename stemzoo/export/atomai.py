"""Weights of AtomAI, and of AICrystallographer before it, to bundles. Owns how such files are opened, and what of them fits our networks.

A file is unpickled by torch's `weights_only` reader, which runs no code; the optimiser that AtomAI stores along is read into an inert box
and dropped. Anything else in the file, and it is refused. Called by `stemzoo zoo import atomai`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from stemzoo.errors import ModelError
from stemzoo.export.bundle import write_bundle
from stemzoo.nets.atomai import FORMS, PublishedNet, PublishedSegmenterGraph
from stemzoo.nets.graphs import DecoderGraph, EncoderGraph
from stemzoo.nets.rvae import RVAE
from stemzoo.runtime.bundle import sha256_of
from stemzoo.zoo.card import Card

CITATION = "M. Ziatdinov et al., AtomAI, Nat. Mach. Intell. 4, 1101 (2022), and whoever trained these weights"
RANGE = 1.25
"""A sampling this factor off the stated one still counts as trained on: AtomAI's zoom augmentation is about that."""


@dataclass(frozen=True)
class Origin:
    """What AtomAI's files do not say and a card must.

    Args:
        sampling: Å/px of the frames that the weights were trained on.
        name, version: of the model.
        classes: names of the columns' classes; by default `column`, or `class-1`, `class-2` ….
        intensity: for an rVAE, the raw intensities that were 0 and 1 in its training.
        upsampling: `bilinear` or `nearest`, where the file does not say.
        card: further keys of the card: materials, licence, citation, limits …
    """

    sampling: float
    name: str
    version: int = 1
    classes: tuple[str, ...] = ()
    intensity: tuple[float, float] = (0.0, 1.0)
    upsampling: str = "bilinear"
    card: Mapping[str, Any] | None = None


class _Box:
    """Takes the place of an optimiser, which is of no use here, and forgets what it is given."""

    def __setstate__(self, state: object) -> None: ...


def _empty(*_: object) -> dict[object, object]:
    """Take the place of defaultdict, in which an optimiser keeps its state."""
    return {}


_DROPPED: list[tuple[Callable[..., Any], str]] = [
    *((_Box, f"torch.optim.{name.lower()}.{name}") for name in ("Adam", "AdamW", "SGD", "RMSprop")),
    (_empty, "collections.defaultdict"),
    (_Box, "builtins.dict"),  # defaultdict's factory
]


def import_atomai(checkpoint: Path, folder: Path, origin: Origin) -> Card:
    """Return the card of the bundle made from an AtomAI or AICrystallographer file and written to `folder`.

    Raises: ModelError for a file that holds more than weights, or a network that has no counterpart here, with what does not fit;
    ExportError, CardError, OutputError as `write_bundle`.
    """
    content = load_safely(checkpoint)
    try:
        if "encoder" in content and "decoder" in content:
            modules, draft = _encoder(content, origin)
        else:
            modules, draft = _segmenter(content, origin)
    except ModelError as error:
        raise ModelError(f"{checkpoint}: {error}; nothing was written") from None
    stated = {"licence": "unstated", "citation": CITATION, "materials": ["unstated"], **(origin.card or {})}
    limits = (*draft.pop("limits"), *stated.pop("limits", ()))
    common = {"name": origin.name, "version": origin.version, "parent": sha256_of(checkpoint)}
    return write_bundle(folder, modules, {**common, **draft, **stated, "limits": limits})


def load_safely(path: Path) -> dict[str, Any]:
    """Return what a file of torch.save holds, without running any code of it. Raises: ModelError naming what it wanted to run."""
    if not path.is_file():
        raise ModelError(f"{path}: no such file; wanted a .tar or .pt that AtomAI or AICrystallographer saved")
    try:
        with torch.serialization.safe_globals([*_DROPPED]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        wanted = re.search(r"GLOBAL ([\w.]+)", str(error))
        reason = f"it wants to run {wanted[1]}" if wanted else f"{type(error).__name__}"
        raise ModelError(f"{path}: holds more than weights, or is no file of torch ({reason}); save its state_dict() alone") from None
    if not isinstance(content, dict) or not content:
        raise ModelError(f"{path}: holds a {type(content).__name__}; wanted AtomAI's dictionary or a state_dict()")
    return dict(content)


def _segmenter(content: dict[str, Any], origin: Origin) -> tuple[dict[str, torch.nn.Module], dict[str, Any]]:
    stated = str(content.get("model_type", "seg"))
    if stated != "seg":
        raise ModelError(f"a model of type {stated!r} has no counterpart here; segmentors and rVAEs have")
    weights = _tensors(content.get("weights", content))
    state = _flat(weights)
    form = str(content.get("model") or _form_of(state))
    net = PublishedNet(
        state, form, upsampling=str(content.get("upsampling") or origin.upsampling), dropout=bool(content.get("dropout"))
    ).eval()
    n_classes = max(net.n_channels - 1, 1)
    classes = origin.classes or (("column",) if n_classes == 1 else tuple(f"class-{number}" for number in range(1, n_classes + 1)))
    if len(classes) != n_classes:
        raise ModelError(f"{len(classes)} names for {n_classes} classes of columns; name as many with --classes")
    return {"model": PublishedSegmenterGraph(net), "weights": net}, {
        "task": "segmentation",
        "title": f"AtomAI segmentor ({form})",
        "summary": f"Weights of an AtomAI {form}, unchanged; they give the probability that a pixel lies on a column.",
        "sampling": _range(origin.sampling),
        "classes": list(classes),
        "threshold": 0.5,
        "min_separation": 0.9,
        "receptive_px": net.receptive_px,
        "stride_px": net.stride_px,
        "normalisation": "from the lowest to the highest intensity of each image to 0–1, as AtomAI does",
        "limits": [
            "Its probability is that of a pixel on a column, not of a column's position: maxima may be flat until they are refined.",
            "Each tile of a large frame is normalised by its own extremes; one hot pixel changes them.",
            f"Trained at {origin.sampling:g} Å/px as stated on import; AtomAI's files do not say.",
        ],
    }


def rvae_of(content: dict[str, Any], intensity: tuple[float, float] = (0.0, 1.0), rotation_sigma: float = 0.1) -> RVAE:
    """Return the network that an rVAE of AtomAI's is, from what `load_safely` gives.

    Args: intensity: the raw intensities that were 0 and 1 in its training. rotation_sigma: its rotation prior [rad]; the file has none.
    Raises: ModelError if it has no counterpart here.
    """
    encoder, decoder = _tensors(content["encoder"]), _tensors(content["decoder"])
    if "model_type" not in content:
        raise ModelError("an rVAE's weights alone do not say which network they are of; save it with save_model")
    problems = _what_does_not_fit(content, encoder, decoder)
    if problems:
        raise ModelError(f"this rVAE has no counterpart here: {', '.join(problems)}")
    width, pixels = encoder["dense.0.weight"].shape
    side, latents = round(pixels**0.5), decoder["coord_latent.fc_latent.weight"].shape[1]
    likelihood = "bce" if content.get("sigmoid_out") else "mse"
    translation = len(encoder["fc11.bias"]) - latents == 3
    net = RVAE(side, latents, width, translation=translation, likelihood=likelihood, rotation_sigma=rotation_sigma, free_angle=True)
    place = decoder["coord_latent.fc_coord.weight"]
    state = {
        "encoder.0.weight": encoder["dense.0.weight"],
        "encoder.0.bias": encoder["dense.0.bias"],
        "encoder.2.weight": encoder["dense.2.weight"],
        "encoder.2.bias": encoder["dense.2.bias"],
        "encoder.4.weight": torch.cat([encoder["fc11.weight"], encoder["fc12.weight"]]),
        "encoder.4.bias": torch.cat([encoder["fc11.bias"], encoder["fc12.bias"]]),
        # AtomAI's coordinates are (row, -column) from -1 to 1; ours are (right, up) = (column, -row).
        "place.weight": torch.stack([-place[:, 1], -place[:, 0]], 1),
        "place.bias": decoder["coord_latent.fc_coord.bias"],
        "content.weight": decoder["coord_latent.fc_latent.weight"],
        **{f"layers.{layer}.{part}": decoder[f"fc_decoder.{2 * layer}.{part}"] for layer in (0, 1) for part in ("weight", "bias")},
        "value.weight": decoder["out.weight"],
        "value.bias": decoder["out.bias"],
        "mean": torch.tensor(float(intensity[0])),
        "std": torch.tensor(float(intensity[1] - intensity[0])),
        "reference": torch.tensor(0.0),
    }
    net.load_state_dict(state)
    return net.eval()


def _encoder(content: dict[str, Any], origin: Origin) -> tuple[dict[str, torch.nn.Module], dict[str, Any]]:
    net = rvae_of(content, origin.intensity)
    return {"model": EncoderGraph(net), "decoder": DecoderGraph(net), "weights": net}, {
        "task": "encoding",
        "title": "AtomAI rVAE",
        "summary": "Weights of an AtomAI rVAE, unchanged: angle and latents of sub-images.",
        "sampling": _range(origin.sampling),
        "window": {"px": net.window_px, "angstrom": net.window_px * origin.sampling},
        "latents": net.latents,
        "gauge": "angle 0 is what the network learnt to call so",
        "normalisation": f"intensities from {origin.intensity[0]:g} to {origin.intensity[1]:g} to 0–1, one scale for all sub-images",
        "limits": [
            "The angle is the encoder's guess, and so is its error; over the whole circle such guesses stick in local optima.",
            f"Takes intensities from {origin.intensity[0]:g} to {origin.intensity[1]:g}, as stated on import; AtomAI's files do not say.",
            "AtomAI shifts a pattern after turning it and we before; the shift is not exported, but training on would learn it anew.",
        ],
    }


def _what_does_not_fit(content: dict[str, Any], encoder: dict[str, Tensor], decoder: dict[str, Tensor]) -> list[str]:
    """Return why an AtomAI VAE is not the form of nets.rvae, in words; nothing if it is."""
    problems = []
    if any(name.startswith("conv.") for name in encoder):
        problems.append("its encoder is convolutional, ours dense")
    if any(name.startswith("fc13") for name in encoder):
        problems.append("it has discrete latents")
    if "coord_latent.fc_coord.weight" not in decoder:
        return [*problems, "its decoder knows no coordinates (a plain VAE)"]
    if content.get("skip"):
        problems.append("its decoder has skip connections of another kind than ours")
    if content.get("nb_classes"):
        problems.append("it is conditioned on classes")
    if content.get("softplus_out"):
        problems.append("its spreads go through a softplus")
    depths = [
        len([name for name in part if re.fullmatch(rf"{prefix}\.\d+\.weight", name)])
        for part, prefix in ((encoder, "dense"), (decoder, "fc_decoder"))
    ]
    if problems:
        return problems
    if depths != [2, 2]:
        return [f"{depths[0]} layers in the encoder and {depths[1]} in the decoder, ours have 2 and 2"]
    width, pixels = encoder["dense.0.weight"].shape
    if round(pixels**0.5) ** 2 != pixels:
        problems.append(f"sub-images of {pixels} values are not square")
    if decoder["out.weight"].shape[0] != 1:
        problems.append(f"{decoder['out.weight'].shape[0]} channels")
    if decoder["coord_latent.fc_coord.weight"].shape[0] != width:
        problems.append(f"hidden layers of {width} in the encoder and {decoder['coord_latent.fc_coord.weight'].shape[0]} in the decoder")
    extra = len(encoder["fc11.bias"]) - decoder["coord_latent.fc_latent.weight"].shape[1]
    if extra not in (1, 3):
        problems.append(f"{extra} coordinates besides the latents, wanted 1 (angle) or 3 (angle and shift)")
    return problems


def _range(sampling: float) -> dict[str, float]:
    return {"min": round(sampling / RANGE, 4), "max": round(sampling * RANGE, 4), "nominal": sampling}


def _tensors(state: object) -> dict[str, Tensor]:
    """Return a state_dict. Raises: ModelError if it holds anything but tensors, as an ensemble's does."""
    if not isinstance(state, Mapping) or not all(isinstance(value, Tensor) for value in state.values()):
        raise ModelError("its weights are not one state_dict of tensors; of an ensemble, save one member")
    return {str(name).removeprefix("module."): value for name, value in state.items()}


def _flat(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights by AtomAI's names: AICrystallographer's blocks of blocks, `c2.1.block.0`, become one block, `c2.block.2`."""
    lengths: dict[str, dict[int, int]] = {}
    pattern = re.compile(r"(c\d)\.(\d+)\.block\.(\d+)\.(.+)")
    for name in state:
        if match := pattern.fullmatch(name):
            inner = lengths.setdefault(match[1], {})
            inner[int(match[2])] = max(inner.get(int(match[2]), 2), int(match[3]) + 1 if int(match[3]) else 2)
    flat = {}
    for name, value in state.items():
        if match := pattern.fullmatch(name):
            before = sum(length for place, length in lengths[match[1]].items() if place < int(match[2]))
            name = f"{match[1]}.block.{before + int(match[3])}.{match[4]}"
        flat[name] = value
    return flat


def _form_of(state: dict[str, Tensor]) -> str:
    """Return which network's blocks a state_dict names. Raises: ModelError if none's."""
    found = {name.split(".")[0] for name in state}
    for form, (blocks, _) in FORMS.items():
        if {block.split(".")[0] for block in blocks} <= found:
            return form
    raise ModelError(f"weights of {', '.join(sorted(found)[:8])} are of no network that is known here: {', '.join(FORMS)}")
