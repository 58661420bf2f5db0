"""Execution providers: what was asked for, what runs, and that the difference is told."""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnxruntime
import pytest

from stemzoo.errors import ModelError
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.golden import verify
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import CPU, SessionOptions, parse_providers

OPENVINO = "OpenVINOExecutionProvider"


class Pretended:
    """onnxruntime's session, which says that OpenVINO runs where that was asked for, and may fail to."""

    able = True

    def __init__(self, path, sess_options, providers):
        self._inner = REAL(path, sess_options=sess_options, providers=[CPU])
        self._providers = providers

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def get_providers(self):
        return self._providers

    def run(self, names, feed):
        if self._providers[0] == OPENVINO and not self.able:
            raise RuntimeError("subgraph_2 failed\nand much more")
        return self._inner.run(names, feed)


REAL = onnxruntime.InferenceSession


@pytest.fixture
def pretended(monkeypatch):
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [OPENVINO, CPU])
    monkeypatch.setattr(onnxruntime, "InferenceSession", Pretended)
    monkeypatch.setattr(onnxruntime, "set_default_logger_severity", lambda level: None)
    return Pretended


def test_a_provider_that_can_runs(segmenter_folder: Path, pretended):
    bundle = Bundle.load(segmenter_folder, SessionOptions(threads=1, providers=("openvino",)))
    assert (bundle.session.provider, bundle.session.notices) == (OPENVINO, ())
    assert verify(bundle).provider == OPENVINO


@pytest.mark.parametrize("kind", ["segmenter", "encoder"])
def test_one_that_takes_the_graph_and_cannot_run_it_is_replaced_and_named(kind, request, pretended, monkeypatch):
    """As OpenVINO does with the encoders' graphs."""
    monkeypatch.setattr(pretended, "able", False)
    bundle = Bundle.load(request.getfixturevalue(f"{kind}_folder"), SessionOptions(threads=1, providers=("openvino",)))
    assert bundle.session.provider == CPU
    assert bundle.session.notices == (f"{OPENVINO} cannot run model.onnx (subgraph_2 failed); it runs on {CPU}",)
    result = verify(bundle)
    assert result.ok and result.provider == CPU and result.notices == bundle.session.notices


def test_several_are_tried_in_order(segmenter_folder: Path, pretended):
    session = Bundle.load(segmenter_folder, SessionOptions(threads=1, providers=parse_providers("TensorRT, openvino"))).session
    assert session.provider == OPENVINO
    assert session.notices == (
        f"TensorrtExecutionProvider is not part of this onnxruntime (it has {OPENVINO}, {CPU}); the network runs on {OPENVINO}",
    )
    with pytest.raises(ModelError, match="execution provider 'openvino;cuda' is unknown"):
        SessionOptions(providers=parse_providers("openvino;cuda"))


class Noted:
    """onnxruntime's session, which notes the options of each run."""

    def __init__(self, path, sess_options, providers):
        self._inner = REAL(path, sess_options=sess_options, providers=providers)
        self.threads, self.runs = sess_options.intra_op_num_threads, []

    def __getattr__(self, name):
        return getattr(self._inner, name)

    def run(self, names, feed, options=None):
        self.runs.append(options)
        return self._inner.run(names, feed, options)


@pytest.mark.parametrize(("arena", "side", "goes_back"), [(True, 500, True), (True, 100, False), (False, 500, False)])
def test_memory_goes_back_after_the_last_of_many_tiles(segmenter_folder: Path, monkeypatch, arena, side, goes_back):
    monkeypatch.setattr(onnxruntime, "InferenceSession", Noted)
    bundle = Bundle.load(segmenter_folder, SessionOptions(threads=2, arena=arena))
    image = np.random.default_rng(0).gamma(2.0, 50.0, (side, side)).astype(np.float32)
    found = Segmenter(bundle, max_tile_px=130).probabilities(image)
    noted = bundle.session._inner
    assert len(noted.runs) > 2 or side == 100
    assert [options is not None for options in noted.runs] == [False] * (len(noted.runs) - 1) + [goes_back]
    if goes_back:
        assert noted.runs[-1].get_run_config_entry("memory.enable_memory_arena_shrinkage") == "cpu:0"
    assert bundle.session.threads == noted.threads == 2
    np.testing.assert_allclose(found, Segmenter(bundle, max_tile_px=512).probabilities(image), rtol=0, atol=1e-5)


def test_threads_rest_once_a_run_is_over(segmenter_folder: Path):
    """Whoever uses the cores next, another network or the acquisition, shall have them."""
    session = Bundle.load(segmenter_folder, SessionOptions(threads=2)).session
    spent = 0.0
    for _ in range(3):
        session.run({"image": np.zeros((1, 1, 256, 256), np.float32)})
        before = time.process_time()
        time.sleep(0.1)
        spent += time.process_time() - before
    assert spent < 0.1  # of 0.3 s; a thread that goes on spinning spends nearly all of it


def test_nothing_is_kept_for_or_told_to_the_makers_of_onnxruntime(segmenter_folder: Path, tmp_path: Path):
    """Its telemetry makes a number for the machine in the home on loading, and does so before a call could stop it."""
    code = f"from stemzoo.runtime import Bundle; from pathlib import Path; Bundle.load(Path({str(segmenter_folder)!r}))"
    kept_out = ("ORT_", "CI", "GITHUB_", "XDG_")  # telemetry rests in what it takes for a build
    env = {name: value for name, value in os.environ.items() if not name.startswith(kept_out)}
    homes = {name: str(tmp_path) for name in ("HOME", "USERPROFILE", "LOCALAPPDATA")}
    subprocess.run([sys.executable, "-c", code], check=True, env={**env, **homes})
    assert [path.name for path in tmp_path.rglob("*")] == []
