"""A network and a drafted card to a bundle folder. Owns the order of the steps, weights.safetensors, golden.npz, the card's listings and
its prose.

Export, parity proof, golden tensors and card are made in a temporary folder that takes its final name at the end: a bundle is whole or
absent. Called by `stemzoo export` (through `export_checkpoint`) and by the scripts that train the zoo.
"""

from __future__ import annotations

import datetime
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save
from torch import nn

from stemzoo.errors import CardError, ExportError, OutputError
from stemzoo.export.cases import cases_for, decoder_cases
from stemzoo.export.onnx import export_graph
from stemzoo.export.parity import Case, check_parity, references
from stemzoo.runtime.bundle import DECODER_FILE, GOLDEN_FILE, METADATA_KEY, MODEL_FILE, WEIGHTS_FILE, Bundle, ModelSpec, sha256_of
from stemzoo.runtime.golden import verify
from stemzoo.zoo.card import CARD_FILE, Card, File, dump_card, make_card
from stemzoo.zoo.whole import whole_folder

GOLDEN_CASES = 2
GRAPHS = {
    "segmentation": (["probability"], {"image": {0: "batch", 2: "height", 3: "width"}}),  # an ensemble's graph names more outputs itself
    "encoding": (["angle", "angle_sigma", "symmetry", "latents"], {"subimages": {0: "batch"}}),
}
DECODER_GRAPH = (["pattern"], {"latents": {0: "batch"}, "angle": {0: "batch"}})


def export_checkpoint(checkpoint: Path, folder: Path, stated: Mapping[str, Any] | None = None) -> Card:
    """Return the card of the bundle made from a Lightning checkpoint of either task and written to `folder`.

    Args: `stated` overrides keys of the card that training drafts (name, version, licence …).
        A folder `<name>/v<N>` states name and version itself.
    Raises: ModelError if the checkpoint cannot be loaded; ExportError, CardError, OutputError as `write_bundle`.
    """
    from stemzoo.training import load_for_export

    _, modules, draft = load_for_export(checkpoint)
    # An encoder is proved on sub-images it was trained for: what is far from their intensities has no angle to agree on.
    cases = getattr(modules["model"], "cases", None)
    return write_bundle(folder, modules, {**draft, **named_by(folder), **(stated or {})}, cases)


def write_bundle(folder: Path, modules: Mapping[str, nn.Module], draft: Mapping[str, Any], cases: Sequence[Case] | None = None) -> Card:
    """Return the card of the bundle written to `folder`.

    Args:
        folder: must not exist yet, or be empty; where it is called `v<N>`, name and version of the card must match.
        modules: `model` is the graph; `decoder`, for encoders, the decoder's graph; `weights` the plain network whose state is saved for
            training on (default: `model`). If that has an attribute `config` (a JSON-serialisable mapping), it travels with the weights.
        draft: front matter; `id`, `created`, `parameters`, `files` and `golden` are filled in here.
        cases: four or so inputs for `model`; default: columns on a lattice.

    Raises: CardError if the draft breaks the schema; ExportError if a graph cannot be made or does not reproduce its network; OutputError
    if `folder` is taken or cannot be written.
    """
    weights = modules.get("weights", modules["model"])
    card = complete_card(draft, sum(parameter.numel() for parameter in weights.parameters()))
    if ("decoder" in modules) and card.task != "encoding":
        raise ExportError(f"{card.id}: got a decoder for a model of task {card.task}; only encoders have one")
    check_folder(folder, card)
    with whole_folder(folder) as work:
        metadata = card.to_metadata()
        spec = ModelSpec.from_card(json.loads(metadata), card.id)
        outputs, dynamic = GRAPHS[card.task]
        outputs = list(getattr(modules["model"], "outputs", outputs))
        golden = _graph(work / MODEL_FILE, modules["model"], cases or cases_for(card), outputs, dynamic, spec, metadata, "")
        if "decoder" in modules:
            outputs, dynamic = DECODER_GRAPH
            golden |= _graph(work / DECODER_FILE, modules["decoder"], decoder_cases(card), outputs, dynamic, spec, metadata, "decoder_")
        np.savez_compressed(work / GOLDEN_FILE, **golden)  # type: ignore[arg-type]
        _save_weights(work / WEIGHTS_FILE, weights)
        return seal(work, card)


def seal(work: Path, card: Card, prose: str | None = None) -> Card:
    """Return the card, on which all files in `work` are listed, written beside them: the folder is a bundle and proves itself.

    Args: prose: text below the front matter; default: a template that says what the card knows.
    Raises: ExportError if the golden tensors are not reproduced; ModelError if the bundle cannot be opened.
    """
    files = [File(name=path.name, sha256=sha256_of(path), size=path.stat().st_size) for path in sorted(work.iterdir())]
    card = card.model_copy(update={"files": tuple(files)})
    (work / CARD_FILE).write_text(dump_card(card, prose or template(card)), encoding="utf-8")
    replay = verify(Bundle.load(work))
    if not replay.ok:
        raise ExportError(replay.summary())
    return card


def complete_card(draft: Mapping[str, Any], parameters: int) -> Card:
    """Return the drafted card with what follows from the rest filled in. Raises: CardError naming the key."""
    data = dict(draft)
    for key in ("name", "version"):
        if key not in data:
            raise CardError(f"card draft: key '{key}' is missing; a model is called name@version")
    data.setdefault("id", f"{data['name']}@{data['version']}")
    data.setdefault("created", datetime.date.today())
    return make_card({**data, "parameters": parameters, "files": []}, f"card draft of {data['id']}")


def _graph(
    path: Path,
    module: nn.Module,
    cases: Sequence[Case],
    outputs: Sequence[str],
    dynamic: Mapping[str, Mapping[int, str]],
    spec: ModelSpec,
    metadata: str,
    prefix: str,
) -> dict[str, np.ndarray]:
    """Write one graph, prove it on all cases, one of which must hold 2 or more, and return the golden arrays of the first ones."""
    truth = references(module, cases, outputs)
    example = next(case for case in cases if all(array.shape[0] > 1 for array in case.values()))
    export_graph(
        module, {name: torch.from_numpy(array) for name, array in example.items()}, outputs, dynamic, path, {METADATA_KEY: metadata}
    )
    check_parity(path, cases, truth, spec)
    golden: dict[str, np.ndarray] = {}
    for number, (case, result) in enumerate(zip(cases[:GOLDEN_CASES], truth, strict=False)):
        golden |= {f"{prefix}input_{name}_{number}": array for name, array in case.items()}
        golden |= {f"{prefix}output_{name}_{number}": array for name, array in result.items()}
    return golden


def _save_weights(path: Path, network: nn.Module) -> None:
    """Write the network's state; the file's metadata names the buffers, so that parameters can be counted without torch."""
    state = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in network.state_dict().items()}
    learned = {name for name, _ in network.named_parameters()}
    config = getattr(network, "config", None)
    metadata = {"format": "pt", "buffers": json.dumps(sorted(set(state) - learned))}
    if isinstance(config, Mapping):
        metadata["config"] = json.dumps(dict(config), sort_keys=True)
    path.write_bytes(_ordered(save(state, metadata=metadata)))


def _ordered(data: bytes) -> bytes:
    """Return a safetensors file with the keys of its header sorted: the library writes those of the metadata in any order, but the same
    weights must have the same sha256.

    Source: the format, github.com/huggingface/safetensors: eight bytes of length, a JSON header padded with spaces, the tensors.
    """
    length = int.from_bytes(data[:8], "little")
    header = json.dumps(json.loads(data[8 : 8 + length]), sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    header += b" " * (-len(header) % 8)
    return len(header).to_bytes(8, "little") + header + data[8 + length :]


def named_by(folder: Path) -> dict[str, Any]:
    """Return the name and version that a folder `<name>/v<N>` states; nothing for any other folder."""
    resolved = folder.absolute()
    if not re.fullmatch(r"v[1-9]\d*", resolved.name):
        return {}
    return {"name": resolved.parent.name, "version": int(resolved.name[1:])}


def check_free(folder: Path) -> None:
    """Raise OutputError if `folder` is taken."""
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise OutputError(f"{folder}: already there; a published version never changes: raise the version or name another --out")


def check_folder(folder: Path, card: Card) -> None:
    """Raise OutputError if `folder` is taken, or called `<name>/v<N>` but to hold another model or version."""
    check_free(folder)
    if named_by(folder) not in ({}, {"name": card.name, "version": card.version}):
        raise OutputError(f"{folder}: the card is of {card.id}; in a zoo its folder is {card.name}/v{card.version}")


def template(card: Card) -> str:
    """Return the prose of a new card: what the front matter says, in sentences, and what an author still has to write."""
    sampling = card.sampling
    verb = "analyze FRAME --model" if card.task == "segmentation" else "analyze FRAME --encoder"
    rows = [
        f"| {score.dataset} | {score.role} | {score.metric} | {score.value:.4g}{_interval(score.interval)} | {score.n} |"
        for score in card.evaluation
    ]
    table = ["| dataset | role | metric | value (95 %) | n |", "|---|---|---|---|---|", *rows] if rows else ["Not evaluated yet."]
    training = card.training
    facts = {
        "recipes": ", ".join(training.recipes),
        "seed": training.seed,
        "steps": training.steps,
        "hours": training.hours,
        "hardware": training.hardware,
        "versions": ", ".join(f"{name} {version}" for name, version in training.versions.items()),
        "continued from": card.parent,
    }
    lines = [
        f"# {card.title}",
        "",
        card.summary,
        "",
        "## Use",
        "",
        f"    stemzoo {verb} {card.id}",
        "",
        f"Trained for {', '.join(card.materials)} at {sampling.min:g}–{sampling.max:g} Å/px; a frame outside that range is resampled to "
        f"{sampling.nominal:g} Å/px.",
        f"Normalisation is inside the graph: {card.normalisation}. {card.parameters:,} parameters.",
        "",
        "## Training",
        "",
        *([f"- {name}: {value}" for name, value in facts.items() if value not in (None, "")] or ["Not recorded."]),
        "",
        "## Evaluation",
        "",
        *table,
        "",
        "## Limits and failure cases",
        "",
        *([f"- {limit}" for limit in card.limits] or ["None recorded yet; state them before publishing."]),
        "",
        "## Licence and citation",
        "",
        f"{card.licence}. {card.citation}",
    ]
    return "\n".join(lines)


def _interval(interval: tuple[float, float] | None) -> str:
    return "" if interval is None else f" ({interval[0]:.4g}–{interval[1]:.4g})"
