"""`stemzoo doctor` finds what will fail, says what to do about it, and takes for sound what is."""

from __future__ import annotations

import importlib.metadata
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest


def found(done: Any, topic: str) -> list[tuple[str, str]]:
    return [(finding["status"], finding["said"]) for finding in done.json["findings"] if finding["topic"] == topic]


def test_all_is_well(run: Callable[..., Any], zoo_root: Path, tmp_path: Path) -> None:
    done = run("doctor", "--json")
    assert done.code == 0 and done.json["ok"], done.out
    assert found(done, "zoo") == [("ok", f"{zoo_root}: 2 versions")]
    assert [said.split(":")[0] for _, said in found(done, "model")] == ["blob@1", "dipole@1"]
    assert all("agree on CPUExecutionProvider" in said for _, said in found(done, "model"))
    assert found(done, "cache")[0][1].startswith(f"{tmp_path / 'no_cache'} (STEMZOO_CACHE): writable")
    assert not (tmp_path / "no_cache").exists(), "to look is not to make"
    shown = run("doctor")
    assert shown.code == 0 and "blob@1" in shown.out and "!" not in shown.out


def test_an_extra_that_is_not_installed_is_no_fault(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    version = importlib.metadata.version

    def without_torch(name: str) -> str:
        if name in ("torch", "lightning"):
            raise importlib.metadata.PackageNotFoundError(name)
        return version(name)

    monkeypatch.setattr(importlib.metadata, "version", without_torch)
    done = run("doctor", "--json")
    assert done.code == 0
    [(status, said)] = found(done, "extra train")
    assert status == "absent" and "not installed: torch, lightning (pip install 'stemzoo[train]')" in said


def test_settings_that_will_fail(run: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("STEMZOO_CACHE", str(tmp_path / "file" / "cache"))
    monkeypatch.setenv("STEMZOO_ZOO", str(tmp_path / "nowhere"))
    done = run("doctor", "--json")
    assert done.code == 1 and not done.json["ok"]
    [(status, said)] = found(done, "cache")
    assert status == "wrong" and "cannot be written (not a directory)" in said and "name another cache in STEMZOO_CACHE" in said
    [(status, said)] = found(done, "zoo")
    assert status == "wrong" and f"{tmp_path / 'nowhere'}, which is not a directory" in said
    assert run("doctor").err.strip() == "4 of 12 findings are wrong, marked !"


def test_a_zoo_of_the_web_that_does_not_answer(run: Callable[..., Any], zoo_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STEMZOO_ZOO", f"{zoo_root},http://127.0.0.1:9/zoo")
    done = run("doctor", "--json")
    assert done.code == 1
    [here, web] = found(done, "zoo")
    assert here[0] == "ok" and web[0] == "wrong" and web[1].startswith("http://127.0.0.1:9/zoo: cannot be reached")
    monkeypatch.setenv("STEMZOO_OFFLINE", "1")
    assert "STEMZOO_OFFLINE forbids asking" in found(run("doctor", "--json"), "zoo")[1][1]


def test_a_model_that_no_longer_computes_what_it_did(
    run: Callable[..., Any], zoo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(shutil.copytree(zoo_root, tmp_path / "damaged"))
    shutil.copyfile(root / "dipole" / "v1" / "golden.npz", root / "blob" / "v1" / "golden.npz")
    monkeypatch.setenv("STEMZOO_ZOO", str(root))
    done = run("doctor", "--json")
    assert done.code == 1
    [blob, dipole] = found(done, "model")
    assert blob[0] == "wrong" and "pull or copy the bundle again" in blob[1] and dipole[0] == "ok"


def test_what_no_network_is_run_on_is_not_named(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """onnxruntime's own wheel lists AzureExecutionProvider, which calls a cloud: nothing of stemzoo's ever goes there."""
    monkeypatch.setattr("stemzoo.doctor.available_providers", lambda: ("AzureExecutionProvider", "CPUExecutionProvider"))
    assert found(run("doctor", "--json"), "providers") == [("ok", "networks can run on cpu")]


def test_a_provider_that_is_not_there(run: Callable[..., Any]) -> None:
    done = run("doctor", "--provider", "tensorrt", "--json")
    assert done.code == 1
    assert any("TensorrtExecutionProvider is not part of this onnxruntime" in said for _, said in found(done, "model"))
    assert "execution provider 'abacus' is unknown" in run("doctor", "--provider", "abacus").err
