"""The adapters for other programs, beside stand-ins for those programs and a real server or a real .pyz."""

import importlib.util
import json
import logging
import os
import subprocess
import sys
import threading
import types
from pathlib import Path

import numpy as np
import pytest
import tifffile

from stemzoo.simulation import draw_frames

ROOT = Path(__file__).resolve().parents[2]
ADAPTERS = ROOT / "scripts" / "adapters"


def load(name):
    """Import an adapter from its file."""
    spec = importlib.util.spec_from_file_location(f"adapter_{name}", ADAPTERS / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def server(start):
    """The address of a server with stand-in models."""
    return start()[0].url.rstrip("/")


# --- Nion Swift --------------------------------------------------------------------------------------------------------------------------


class Item:
    """As much of Swift's data item as the plug-in touches."""

    def __init__(self, data, scale, units):
        calibration = types.SimpleNamespace(scale=scale, units=units)
        self.xdata = types.SimpleNamespace(data=data, dimensional_calibrations=[calibration] * data.ndim)
        self.title, self.points = "HAADF 7", []

    def add_point_region(self, y, x):
        self.points.append((y, x))


class Swift:
    """As much of Swift's API: broker, api, library and window in one."""

    def __init__(self, item):
        self.target_data_item, self.library, self.made, self.shown, self.menu = item, self, [], [], None

    def get_api(self, version):
        return self

    def create_menu_item(self, handler):
        self.menu = handler
        return types.SimpleNamespace(close=lambda: setattr(self, "menu", None))

    def create_data_item_from_data(self, data, title):
        self.made.append((title, data))
        return title

    def display_data_item(self, item):
        self.shown.append(item)


def test_swift_gets_points_a_map_and_doubts(server, frame, monkeypatch, caplog):
    plugin = load("nion_swift")
    monkeypatch.setattr(plugin, "SERVER", server)
    swift = Swift(Item(frame, 0.02, "nm"))
    extension = plugin.StemzooExtension(swift)
    swift.menu.menu_item_execute(swift)
    points = np.array(swift.target_data_item.points) * frame.shape - 0.5
    assert len(points) == 42 and frame[tuple(np.round(points).astype(int).T)].mean() > 4 * np.median(frame)
    ((title, data),) = swift.made
    assert title == "Angles of HAADF 7" and swift.shown == [title] and data.shape == (24, 28) and np.isfinite(data).sum() > 50
    swift.target_data_item = Item(np.random.default_rng(0).poisson(20, (96, 96)).astype(np.uint16), 0.02, "nm")
    monkeypatch.setattr(plugin, "MARKED", 0)
    with caplog.at_level(logging.WARNING):
        swift.menu.menu_item_execute(swift)
        swift.target_data_item = Item(frame, 0.02, "nm")
        swift.menu.menu_item_execute(swift)
    assert "HAADF 7: No column was found" in caplog.text and "HAADF 7: the first 0 of 42 columns are marked" in caplog.text
    with pytest.raises(RuntimeError, match="constant"):
        swift.target_data_item = Item(np.ones((64, 64)), 1, "")
        swift.menu.menu_item_execute(swift)
    extension.close()
    assert swift.menu is None


# --- DigitalMicrograph -------------------------------------------------------------------------------------------------------------------

FAKE_DM = """
import json, sys, numpy
class Component:
    def SetForegroundColor(self, r, g, b): pass
class Display:
    def AddNewComponent(self, kind, top, left, bottom, right):
        circles.append(((top + bottom - 1) / 2, (left + right - 1) / 2))
        return Component()
class Image:
    def __init__(self, data): self.data, self.name, self.calibration = data, "front", (0.0, 0.02, "nm")
    def GetNumArray(self): return self.data
    def GetDimensionCalibration(self, dimension, style): return self.calibration
    def SetDimensionCalibration(self, dimension, origin, scale, unit, style): self.calibration = (origin, scale, unit)
    def GetName(self): return self.name
    def SetName(self, name): self.name = name
    def GetImageDisplay(self, index): return Display()
    def ShowImage(self):
        print("SHOWN", json.dumps([self.name, list(self.data.shape), self.calibration[1], sorted(set(self.data.ravel().tolist()))]))
circles = []
def GetFrontImage(): return Image(numpy.load("front.npy"))
def CreateImage(data): return Image(data)
"""


def test_digital_micrograph_runs_the_pyz_in_its_own_python(tmp_path):
    from stemzoo.zoo.microscope import make_folder

    make_folder(["adf-unet@1", "rvae-sr3fe2o7@1"], tmp_path / "usb")
    (tmp_path / "DigitalMicrograph.py").write_text(FAKE_DM)
    np.save(tmp_path / "front.npy", tifffile.imread(ROOT / "stemzoo" / "demo" / "sr3fe2o7_100.tif")[:200, :220])
    environment = {**os.environ, "STEMZOO_FOLDER": str(tmp_path / "usb"), "PYTHONPATH": str(tmp_path)}
    source = f"exec(open({str(ADAPTERS / 'digital_micrograph.py')!r}, encoding='utf-8').read())"
    script = f"{source}\nimport stemzoo\nprint(stemzoo.__file__, len(DM.circles))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    shown = [json.loads(line.removeprefix("SHOWN ")) for line in lines if line.startswith("SHOWN")]
    assert [name.split(" (")[0] for name, *_ in shown] == ["Angle of front", "Latent 1 of front", "Latent 2 of front"]
    for name, shape, scale, values in shown:
        assert (shape, scale) == ([50, 55], 0.08)
        assert name.endswith(f" ({values[0]:g}: none)") and values[0].is_integer(), "its title says which value stands for none"
        assert 1 < values[1] - values[0] <= 2 and len(values) > 50, "and no column has it"
    where, circles = lines[-1].split()
    assert "stemzoo.pyz" in where, "the package beside the test must not stand in for the zip"
    assert 150 < int(circles) < 350 and any(f"{circles} columns" in line for line in lines)
    drawn = next(draw_frames(ROOT / "datasets" / "mos2.toml", 1, 31, {"frame.size_px": 256, "frame.sampling": 0.2, "defects": []}))
    np.save(tmp_path / "front.npy", drawn.image)  # an encoder of Sr3Fe2O7 gives MoS2 angles as it gives any
    done = subprocess.run([sys.executable, "-c", source], capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=120)
    assert "warning: rvae-sr3fe2o7@1 explains" in done.stdout, done.stderr


# --- LiberTEM ----------------------------------------------------------------------------------------------------------------------------


def scan(frame):
    """A 4D-STEM scan (H, W, 8, 8) whose outer detector pixels sum up to `frame`, with a bright beam in the middle."""
    data = np.zeros((*frame.shape, 8, 8), np.float32)
    data[..., 0, :] = frame[..., None] / 8
    data[..., 3:5, 3:5] = 1e5
    return data


def stand_in(monkeypatch):
    """Put modules in place of libertem's that run the UDF row by row."""

    class UDF:
        def __init__(self, **words):
            self.params = types.SimpleNamespace(**words)

        def buffer(self, kind, dtype):
            assert kind == "nav"
            return dtype

    class Context:
        def run_udf_iter(self, data, udf):
            height, width = data.shape[:2]
            out, there = np.zeros((height, width), udf.get_result_buffers()["intensity"]), np.zeros((height, width), bool)
            udf.meta = types.SimpleNamespace(dataset_shape=types.SimpleNamespace(sig=data.shape[2:]))
            udf.task_data = types.SimpleNamespace(**udf.get_task_data())
            for row in range(height):
                for col in range(width):
                    udf.results = types.SimpleNamespace(intensity=out[row, col : col + 1])
                    udf.process_frame(data[row, col])
                there[row] = True
                buffers = ({"intensity": types.SimpleNamespace(data=out)},)
                yield types.SimpleNamespace(buffers=buffers, damage=types.SimpleNamespace(data=there))

    monkeypatch.setitem(sys.modules, "libertem", types.ModuleType("libertem"))
    module = types.ModuleType("libertem.udf")
    module.UDF = UDF
    monkeypatch.setitem(sys.modules, "libertem.udf", module)
    return Context()


def test_a_scan_is_analysed_as_it_fills(server, frame, monkeypatch):
    context = stand_in(monkeypatch)
    adapter = load("libertem_live")
    monkeypatch.setattr(adapter, "SERVER", server)
    answers = list(adapter.columns_of_scan(context, scan(frame), inner_px=3, outer_px=9, pixel_size=0.2))
    counts = [answer["n_columns"] for answer in answers]
    assert counts[-1] == 42 and len(counts) >= 2 and counts == sorted(counts) and counts[0] < 42


def test_the_whole_scan_waits_for_a_busy_server_and_vacuum_does_not_end_it(start, frame, monkeypatch):
    client, engine = start(waiting=1)
    context = stand_in(monkeypatch)
    adapter = load("libertem_live")
    monkeypatch.setattr(adapter, "SERVER", client.url.rstrip("/"))
    vacuum = np.vstack([np.full((112, 112), 3, frame.dtype), frame])
    answers = list(adapter.columns_of_scan(context, scan(vacuum), inner_px=3, outer_px=9, pixel_size=0.2))
    assert answers[-1]["n_columns"] >= 42 and answers[-1]["doubts"] == []
    places = [engine.admit() for _ in range(engine.capacity)]
    threading.Timer(0.7, lambda: [place.free() for place in places]).start()
    answers = list(adapter.columns_of_scan(context, scan(frame), inner_px=3, outer_px=9, pixel_size=0.2))
    assert [answer["n_columns"] for answer in answers] == [42], "nothing of the scan as it filled, all of it once there is a place"
    engine.admit(), engine.admit()
    monkeypatch.setattr(adapter, "PATIENCE_S", 0.1)
    with pytest.raises(adapter.Refused, match=r"busy for 0\.1 s"):
        list(adapter.columns_of_scan(context, scan(frame), inner_px=3, outer_px=9, pixel_size=0.2))


def test_with_libertem_itself(server, frame, monkeypatch):
    api = pytest.importorskip("libertem.api")
    adapter = load("libertem_live")
    monkeypatch.setattr(adapter, "SERVER", server)
    with api.Context.make_with("inline") as context:
        data = context.load("memory", data=scan(frame), sig_dims=2, num_partitions=4)
        answers = list(adapter.columns_of_scan(context, data, inner_px=3, outer_px=9, pixel_size=0.2))
    assert answers[-1]["n_columns"] == 42
