"""What this installation can do, tried out: versions, extras, execution providers, zoos, the cache, the default models. No torch.

Each finding is one sentence, and what is wrong says what to do. Called by `stemzoo doctor`.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import platform
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import stemzoo
from stemzoo.errors import ModelError, StemzooError
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.golden import verify
from stemzoo.runtime.session import PROVIDERS, SessionOptions, available_providers
from stemzoo.zoo.catalog import default, own_root, roots, versions
from stemzoo.zoo.settings import cache_root, config_path, named_roots, offline, web_roots

Status = Literal["ok", "absent", "wrong"]
NEEDED = ("numpy", "onnxruntime", "scipy", "h5py", "matplotlib", "scikit-learn", "pydantic")
EXTRAS = {
    "io": ("rosettasciio",),
    "train": ("torch", "torchvision", "lightning", "onnx", "onnxscript", "safetensors", "ase"),
    "serve": ("fastapi", "uvicorn", "prometheus-client"),
    "dask": ("dask", "distributed", "zarr"),
    "hub": ("huggingface_hub",),
}
"""Extra → distributions that it brings, the telling ones."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was tried.

    Args:
        topic: what it is about: `python`, `packages`, `extra train`, `providers`, `zoo`, `cache`, `model`.
        status: `ok`; `absent` for what is not installed and need not be; `wrong` for what will fail.
        said: what was found, and for anything but `ok` what to do.
    """

    topic: str
    status: Status
    said: str


def examine(providers: tuple[str, ...] = ("cpu",)) -> list[Finding]:
    """Return what was found, in the order in which it matters.

    Args: providers: execution providers to run the default models on, as for SessionOptions.
    Raises: ModelError for a provider of no known name.
    """
    options = SessionOptions(providers=providers)
    return [*_packages(), *_extras(), _providers(), *_zoos(), _cache(), *_models(options)]


def _packages() -> Iterator[Finding]:
    said = f"stemzoo {stemzoo.__version__} on Python {platform.python_version()}, {platform.system()} {platform.machine()}"
    yield Finding("python", "ok", f"{said}, {Path(stemzoo.__file__).parent}")
    found, missing = _versions(NEEDED)
    yield Finding("packages", "wrong" if missing else "ok", f"{found or 'none'}{_missing(missing, 'stemzoo')}")


def _extras() -> Iterator[Finding]:
    for extra, names in EXTRAS.items():
        found, missing = _versions(names)
        yield Finding(f"extra {extra}", "absent" if missing else "ok", f"{found}{_missing(missing, f'stemzoo[{extra}]')}".lstrip("; "))


def _missing(names: list[str], what: str) -> str:
    return f"; not installed: {', '.join(names)} (pip install '{what}')" if names else ""


def _versions(names: tuple[str, ...]) -> tuple[str, list[str]]:
    """Return the versions of the distributions that are installed, as text, and the names of the others."""
    found, missing = [], []
    for name in names:
        try:
            found.append(f"{name} {importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            missing.append(name)
    # onnxruntime-gpu and its kin bring the package under another name.
    if "onnxruntime" in missing and importlib.util.find_spec("onnxruntime") is not None:
        missing.remove("onnxruntime")
        found.append("onnxruntime of another build")
    return ", ".join(found), missing


def _providers() -> Finding:
    try:
        offered = available_providers()
    except ModelError as error:
        return Finding("providers", "wrong", str(error))
    short = {full: name for name, full in PROVIDERS.items()}
    # Others that a build lists, as AzureExecutionProvider, are never asked for.
    return Finding("providers", "ok", f"networks can run on {', '.join(short[name] for name in offered if name in short) or 'none'}")


def _zoos() -> Iterator[Finding]:
    """Yield a finding for each zoo, in the order in which names are looked up."""
    try:
        named, web = named_roots(), web_roots()
    except StemzooError as error:
        yield Finding("zoo", "wrong", str(error))
        return
    if config_path().is_file():
        yield Finding("settings", "ok", f"{config_path()}")
    for root in roots():
        held = len(versions(root))
        where = {own_root(): " (came with the package)", cache_root(): " (the cache)"}.get(root, "")
        if held or root in named:
            yield Finding("zoo", "ok", f"{root}{where}: {held} version{'' if held == 1 else 's'}")
    if web:
        from stemzoo.zoo.web import read_index
    for address in web:
        notes: list[str] = []
        try:
            listed = read_index(address, notes.append)
        except StemzooError as error:
            yield Finding("zoo", "wrong", str(error))
            continue
        count = f"{len(listed)} version{'' if len(listed) == 1 else 's'}"
        if notes:
            yield Finding("zoo", "wrong", f"{notes[0]}: {count}; check the address, the network and the proxy")
        else:
            yield Finding("zoo", "ok", f"{address}: {count}{', as listed when last asked: STEMZOO_OFFLINE' if offline() else ''}")


def _cache() -> Finding:
    """Return whether models can be fetched into the cache; whatever is made to find out is removed."""
    root = cache_root()
    place = next(folder for folder in (root, *root.parents) if folder.exists())
    try:
        if not place.is_dir():
            raise NotADirectoryError(20, "not a directory", str(place))
        with tempfile.TemporaryFile(dir=place):
            pass
    except OSError as error:
        said = f"{root}: cannot be written ({error.strerror or error}), so nothing can be pulled; name another cache in STEMZOO_CACHE"
        return Finding("cache", "wrong", said)
    free = shutil.disk_usage(place).free
    source = "STEMZOO_CACHE" if os.environ.get("STEMZOO_CACHE") else "the system's place"
    return Finding("cache", "ok", f"{root} ({source}): writable, {free / 1e9:.1f} GB free")


def _models(options: SessionOptions) -> Iterator[Finding]:
    """Yield what the golden replay of each task's default model gives."""
    for task in ("segmentation", "encoding"):
        try:
            result = verify(Bundle.load(default(task), options))
        except StemzooError as error:
            yield Finding("model", "wrong", str(error))
            continue
        yield Finding("model", "ok" if result.ok else "wrong", result.summary())
        for notice in result.notices:
            yield Finding("model", "wrong", notice)
