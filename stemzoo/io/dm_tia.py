"""Gatan's dm3 and dm4 and TIA's ser and emi to Raw, through RosettaSciIO. Owns what its dictionaries mean to us. Called by io.read.

RosettaSciIO is GPL and comes with the `io` extra; it is imported when such a file is read and not before.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Mapping
from typing import Any

from stemzoo.errors import ReadError
from stemzoo.io.raw import EAGER_BYTES, Raw, Signal, choose, problem
from stemzoo.io.units import Axis


def read_dm(path: str, wanted: str | None) -> Raw:
    """Return the image of a DigitalMicrograph file."""
    return _read("digitalmicrograph", path, wanted)


def read_tia(path: str, wanted: str | None) -> Raw:
    """Return the image or stack of a TIA file; an .emi names the .ser files beside it, which hold the pixels."""
    return _read("tia", path, wanted)


def _read(plugin: str, path: str, wanted: str | None) -> Raw:
    try:
        reader = importlib.import_module(f"rsciio.{plugin}").file_reader
    except ImportError as error:
        raise ReadError(
            f"{path}: {os.path.splitext(path)[1]} files are read through RosettaSciIO, which is not installed; pip install 'stemzoo[io]'"
        ) from error
    signals = reader(path, lazy=os.path.getsize(path) > EAGER_BYTES)
    if not signals:
        beside = "; an .emi needs its .ser files beside it" if path.lower().endswith(".emi") else ""
        raise ReadError(f"{path}: holds no image{beside}")
    names = [_name(signal, i, len(signals)) for i, signal in enumerate(signals)]
    index, notices = choose(
        path,
        [
            Signal(name, tuple(s["data"].shape), problem(s["data"].shape, s["data"].dtype, [_unit(axis) for axis in s["axes"]]))
            for name, s in zip(names, signals, strict=True)
        ],
        wanted,
    )
    signal = signals[index]
    y, x = signal["axes"][-2:]
    axes = (Axis(float(y["scale"]), _unit(y)), Axis(float(x["scale"]), _unit(x)))
    return Raw(signal["data"], axes, {**_facts(signal), "signal": names[index]}, notices)


def _name(signal: Mapping[str, Any], index: int, of: int) -> str:
    title = str(signal["metadata"].get("General", {}).get("title") or "")
    return title or ("" if of == 1 else f"signal {index}")


def _unit(axis: Mapping[str, Any]) -> str:
    return str(axis.get("units") or "")


_FACTS = {"Acquisition_instrument.TEM.beam_energy": "energy_kev", "General.date": "date", "General.time": "time"}


def _facts(signal: Mapping[str, Any]) -> dict[str, Any]:
    """Return the facts in RosettaSciIO's metadata, and those that its mapping (source path → target, converter) finds in the tags."""
    stated = {target: _at(signal["metadata"], target) for target in _FACTS}
    for source, (target, convert) in signal.get("mapping", {}).items():
        value = _at(signal.get("original_metadata", {}), source)
        if target in stated and value is not None and stated[target] is None:
            stated[target] = value if convert is None else convert(value)
    facts: dict[str, Any] = {_FACTS[target]: str(value) for target, value in stated.items() if value}
    if "energy_kev" in facts:
        facts["energy_kev"] = float(facts["energy_kev"])
    return facts


def _at(tags: Any, path: str) -> Any:
    """Return the tag at a dotted path, or None; a mapping spells blanks in names as underscores."""
    for key in path.replace(" ", "_").split("."):
        tags = next((tag for name, tag in tags.items() if name.replace(" ", "_") == key), None) if isinstance(tags, Mapping) else None
    return tags
