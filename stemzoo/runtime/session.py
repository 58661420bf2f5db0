"""An ONNX file to a callable. Owns the only import of onnxruntime: threads, execution providers, and its errors turned into ModelError.

`open_session` returns a Session that says which provider really runs; a provider that was asked for and cannot be had, or cannot run the
network, is replaced by the CPU and named in `Session.notices`, never silently. Called by runtime.bundle and by export.parity.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Dict, List, Mapping, Optional, Tuple

import numpy as np

from stemzoo.errors import ModelError
from stemzoo.runtime.cores import usable_cores
from stemzoo.runtime.memory import keep_freed

CPU = "CPUExecutionProvider"
PROBE_PX = 128  # side of the frame that a provider is tried on; a multiple of any stride
PROVIDERS = {
    "cpu": CPU,
    "cuda": "CUDAExecutionProvider",
    "tensorrt": "TensorrtExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "directml": "DmlExecutionProvider",
}


@dataclass(frozen=True)
class SessionOptions:
    """How a network is run.

    Args:
        threads: intra-op threads; 0 takes every core that this process may use (runtime.cores).
        providers: execution providers in order of preference, short (`cuda`) or onnxruntime's own names; the CPU is always the last resort.
        spin: let idle threads spin between layers; False leaves their core to the acquisition, at a few percent more time a frame. Once
            a run is over they rest either way.
        arena: let onnxruntime keep freed buffers; False gives memory back after each run.
    """

    threads: int = 0
    providers: Tuple[str, ...] = ("cpu",)
    spin: bool = True
    arena: bool = True

    def __post_init__(self) -> None:
        if self.threads < 0:
            raise ModelError(f"threads is {self.threads}; wanted 0 (every core) or a positive number")
        for name in self.providers:
            if name.lower() not in PROVIDERS and name not in PROVIDERS.values():
                raise ModelError(f"execution provider {name!r} is unknown; wanted one of {', '.join(PROVIDERS)}")


def parse_providers(text: Optional[str]) -> Tuple[str, ...]:
    """Return the execution providers in `tensorrt,cuda`, in order of preference; the CPU alone for None.

    >>> parse_providers("OpenVINO, cuda")
    ('openvino', 'cuda')
    """
    return ("cpu",) if text is None else tuple(name.strip().lower() for name in text.split(","))


class Session:
    """A network that is ready to run.

    Attributes:
        path: the ONNX file.
        provider: the execution provider that runs it.
        notices: what could not be had as asked, one sentence each.
        metadata: the graph's `metadata_props`.
        inputs, outputs: names in the graph's order.
        threads: that it runs on; what belongs to the same frame may take as many.
    """

    def __init__(self, inner: Any, path: Path, notices: Tuple[str, ...], threads: int = 1, giving_back: Any = None) -> None:
        self._inner, self.threads, self._giving_back = inner, threads, giving_back
        self.path = path
        self.notices = notices
        self.provider: str = inner.get_providers()[0]
        self.metadata: Dict[str, str] = dict(inner.get_modelmeta().custom_metadata_map)
        self.inputs: Tuple[str, ...] = tuple(node.name for node in inner.get_inputs())
        self.outputs: Tuple[str, ...] = tuple(node.name for node in inner.get_outputs())

    def run(self, inputs: Mapping[str, np.ndarray], give_back: bool = False) -> Dict[str, np.ndarray]:
        """Return every output by name.

        Args: give_back: free what memory the CPU's arena keeps for the next run: after the last of many tiles that is a gigabyte.
        Raises: ModelError if an input is missing, of the wrong shape, or if the run fails (out of memory included).
        """
        if set(inputs) != set(self.inputs):
            raise ModelError(f"{self.path}: got the inputs {sorted(inputs)}; the graph wants {sorted(self.inputs)}")
        feed = {name: np.ascontiguousarray(array) for name, array in inputs.items()}
        try:
            options = (self._giving_back,) if give_back and self._giving_back is not None else ()
            return dict(zip(self.outputs, self._inner.run(None, feed, *options)))
        except Exception as error:
            shapes = {name: array.shape for name, array in feed.items()}
            raise ModelError(f"{self.path}: the network cannot run on {shapes} with {self.provider}: {_first_line(error)}") from error


def open_session(path: Path, options: Optional[SessionOptions] = None) -> Session:
    """Return the network in the ONNX file at `path`, ready to run.

    Raises: ModelError if the file is missing or damaged, or if onnxruntime is not installed.
    """
    options = options or SessionOptions()
    onnxruntime = _onnxruntime(str(path))
    if not path.is_file():
        raise ModelError(f"{path}: no such model file; name a bundle folder that holds model.onnx")
    keep_freed()
    providers, notices = _choose_providers(options.providers, onnxruntime.get_available_providers())
    settings = onnxruntime.SessionOptions()
    # An explicit count also keeps onnxruntime from pinning threads to cores, which fails noisily in containers.
    settings.intra_op_num_threads = threads = options.threads or usable_cores()
    settings.inter_op_num_threads = 1
    settings.log_severity_level = 4
    settings.enable_cpu_mem_arena = options.arena
    settings.add_session_config_entry("session.intra_op.allow_spinning", "1" if options.spin else "0")
    # after a run they would spin on for 50 ms and more, on cores that the next network, the fit or an acquisition could use
    settings.add_session_config_entry("session.force_spinning_stop", "1")
    if providers[0] != CPU:
        onnxruntime.set_default_logger_severity(4)  # what matters of their start is a notice of ours
    try:
        inner = onnxruntime.InferenceSession(str(path), sess_options=settings, providers=providers)
        running = inner.get_providers()[0]
        if running != CPU and (trouble := _trouble(inner)):
            notices = (*notices, f"{running} cannot run {path.name} ({trouble}); it runs on {CPU}")
            providers = [CPU]
            inner = onnxruntime.InferenceSession(str(path), sess_options=settings, providers=providers)
    except Exception as error:
        raise ModelError(
            f"{path}: not a model that onnxruntime {onnxruntime.__version__} can load ({_first_line(error)}); pull or copy it again"
        ) from error
    running = inner.get_providers()[0]
    if running != providers[0]:
        notices = (*notices, f"{providers[0]} could not start for {path.name}; it runs on {running}")
    giving_back = None
    if options.arena and running == CPU:
        giving_back = onnxruntime.RunOptions()
        giving_back.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
    return Session(inner, path, notices, threads, giving_back)


def available_providers() -> Tuple[str, ...]:
    """Return onnxruntime's names of the execution providers that this installation has, the fastest first.

    Raises: ModelError if onnxruntime is not installed.
    """
    return tuple(_onnxruntime("execution providers").get_available_providers())


def _onnxruntime(what_for: str) -> Any:
    """Return the library, told to report nothing to its makers. Raises: ModelError that names what it was wanted for.

    Left alone, 1.32 for Linux keeps a number for the machine in ~/.cache/Microsoft and has a server to send what is run to. The variable is
    heeded on loading alone; the call quiets what another program of the process loaded before, and the events of Windows.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelError(
            f"{what_for}: running a model needs onnxruntime, which cannot be imported ({_first_line(error)}); pip install onnxruntime"
        ) from error
    onnxruntime.disable_telemetry_events()
    return onnxruntime


def _trouble(inner: Any) -> str:
    """Return why a provider other than the CPU cannot run the network, empty where it can: some take a graph and fail when it runs."""
    zeros = {}
    for node in inner.get_inputs():
        sides = [side if isinstance(side, int) else PROBE_PX if axis > 1 else 2 for axis, side in enumerate(node.shape)]
        zeros[node.name] = np.zeros(sides, np.float32)
    try:
        inner.run(None, zeros)
    except Exception as error:
        return _first_line(error)
    return ""


def _choose_providers(wanted: Tuple[str, ...], available: List[str]) -> Tuple[List[str], Tuple[str, ...]]:
    """Return the providers to ask onnxruntime for, the CPU last, and a notice for each that this installation lacks."""
    chosen: List[str] = []
    missing: List[str] = []
    for name in wanted:
        full = PROVIDERS.get(name.lower(), name)
        (chosen if full in available else missing).append(full)
    chosen = [name for name in chosen if name != CPU] + [CPU]
    return chosen, tuple(
        f"{name} is not part of this onnxruntime (it has {', '.join(available)}); the network runs on {chosen[0]}" for name in missing
    )


def _first_line(error: BaseException) -> str:
    """Return the first line of an error's text, shortened."""
    lines = str(error).strip().splitlines()
    return (lines[0] if lines else type(error).__name__)[:300]
