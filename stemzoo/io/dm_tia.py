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
    return Raw(signal["data"], axes, {**_facts(signal["metadata"]), "signal": names[index]}, notices)


def _name(signal: Mapping[str, Any], index: int, of: int) -> str:
    title = str(signal["metadata"].get("General", {}).get("title") or "")
    return title or ("" if of == 1 else f"signal {index}")


def _unit(axis: Mapping[str, Any]) -> str:
    return str(axis.get("units") or "")


def _facts(metadata: Mapping[str, Any]) -> dict[str, Any]:
    general = metadata.get("General", {})
    facts: dict[str, Any] = {key: str(general[key]) for key in ("date", "time") if general.get(key)}
    energy = metadata.get("Acquisition_instrument", {}).get("TEM", {}).get("beam_energy")
    if energy:
        facts["energy_kev"] = float(energy)
    return facts
