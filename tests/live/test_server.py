"""The server: the package's own results, in every form; everything else refused with a reason, without growing or stalling."""

import json
import shutil
import socket
import threading
import time
import zlib
from urllib.parse import urlsplit

import h5py
import numpy as np
import pytest
import standins
import tifffile

pytest.importorskip("fastapi")

from stemzoo.analyze.choosing import _thinned
from stemzoo.errors import OutputError
from stemzoo.live import linger
from stemzoo.live.feed import REFUSED
from stemzoo.live.listening import _listening, addresses
from stemzoo.live.server import ServeOptions
from stemzoo.runtime.bundle import Bundle
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.pipeline import analyze
from stemzoo.types import Frames

RAW = {"Content-Type": "application/octet-stream"}
TOKEN = "0123456789abcdef"


@pytest.fixture
def client(start):
    return start()[0]


def test_the_answer_is_the_packages_own_analysis(client, models, frame):
    wanted = analyze(Frames(frame[None], 0.2, "user"), *models)
    said = client.analyze(frame, "?pixel_size=0.2&name=scan-17")
    assert said.status == 200
    answer, columns = said.json, said.json["frames"][0]["columns"]
    assert answer["frames"][0]["n_columns"] == len(wanted.columns[0]) == 42
    assert np.allclose(np.stack([columns["y_px"], columns["x_px"]], 1), wanted.columns[0].yx, atol=5e-5)
    angle = np.array([np.nan if value is None else value for value in columns["angle_rad"]])
    assert np.allclose(angle, wanted.encoding.angle, atol=1e-5, equal_nan=True) and np.isfinite(angle).sum() > 20
    assert len(columns["latents"]) == 2
    assert (answer["name"], answer["segmenter"], answer["encoder"]) == ("scan-17", "blob@1", "dipole@1")
    assert not any("encoder" in notice for notice in answer["notices"]), "it was named, not chosen"
    assert (
        set(answer["seconds"])
        == {part.split(";")[0] for part in said.headers["server-timing"].split(", ")}
        >= {"network", "refine", "encode"}
    )


def test_an_answer_says_what_speaks_against_it(client, frame):
    """Single atoms in noise: half of what is found there is nothing, and the operator hears of it beside the columns."""
    assert client.analyze(frame, "?pixel_size=0.2").json["doubts"] == []
    blank = np.random.default_rng(0).poisson(20, (96, 96)).astype(np.uint16)
    doubts = client.analyze(blank, "?pixel_size=0.2").json["doubts"]
    assert any("No column was found" in doubt for doubt in doubts)
    assert json.loads(client.analyze(blank, "?pixel_size=0.2", Accept="text/csv").headers["x-doubts"]) == doubts
    assert client.analyze(frame, "?pixel_size=0.2", Accept="text/csv").headers["x-doubts"] == "[]"


def test_an_encoder_that_does_not_know_the_structure_is_among_the_doubts(start, frame, tmp_path):
    """The stand-in's decoder draws constant patterns, which explain nothing; the answer says so, and what the page shows."""
    client, engine = start()
    standins.save_encoder(tmp_path / "model.onnx")
    standins.save_decoder(tmp_path / "decoder.onnx")
    engine.encoder = Encoder(Bundle.load(tmp_path, standins.ONE_THREAD))
    for answer in (client.analyze(frame, "?pixel_size=0.2").json, client.get("/live/frames/1").json):
        (doubt,) = answer["doubts"]
        assert doubt.startswith("dipole@1 explains 0% of the structure around the columns") and "with another --encoder" in doubt
        assert not any("explains" in notice for notice in answer["notices"])


def test_a_frame_gets_the_encoder_that_fits_it_or_none(start, models, frame):
    found = [(models[1], "It fits."), (None, "None fits.")]

    def choose(analysis):
        time.sleep(0.05)
        return found[len(analysis.columns[0]) < 40]

    client, _ = start(choose=choose)
    known, unknown = client.analyze(frame, "?pixel_size=0.2").json, client.analyze(frame[:80, :80], "?pixel_size=0.2").json
    assert (known["encoder"], known["notices"][-1]) == ("dipole@1", "It fits.")
    assert known["frames"][0]["columns"]["angle_rad"] is not None
    assert (unknown["encoder"], unknown["notices"][-1]) == (None, "None fits.")
    assert unknown["frames"][0]["columns"]["angle_rad"] is None and unknown["frames"][0]["n_columns"] > 0
    assert all(answer["seconds"]["choose"] > 0.04 for answer in (known, unknown)), "time by stage leaves none of it out"
    assert known["seconds"]["encode"] > 0


def test_every_form_of_body_gives_the_same_columns(client, frame, tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", frame)
    shape = {"X-Frame-Shape": "96,112", "X-Frame-Dtype": "uint16"}
    said = [
        client.analyze(frame, "?pixel_size=0.2"),
        client.ask("POST", "/analyze?pixel_size=0.2", frame.tobytes(), {**RAW, **shape}),
        client.ask("POST", "/analyze?pixel_size=0.2&file=C:\\scans\\a.TIF", (tmp_path / "a.tif").read_bytes(), RAW),
        client.ask("POST", "/analyze?pixel_size=0.2", json.dumps({"image": frame.tolist()}).encode(), {"Content-Type": "application/json"}),
    ]
    assert [one.status for one in said] == [200] * 4
    assert all(one.json["frames"] == said[0].json["frames"] for one in said)
    table = client.analyze(frame, "?pixel_size=0.2&encode=false", Accept="text/csv")
    assert table.headers["content-type"].startswith("text/csv")
    lines = table.body.decode().splitlines()
    assert lines[0].endswith("confidence,fit_ok") and len(lines) == 43


def test_a_stack_gives_its_frames_and_the_page_gets_each(client, frame):
    said = client.analyze(np.stack([frame, frame[::-1]]), "?pixel_size=0.2&name=two")
    assert [one["frame"] for one in said.json["frames"]] == [0, 1]
    news = client.get("/live/frames").json
    assert [(one["name"], one["frame"], one["state"], one["columns"]) for one in news] == [("two", 0, "done", 42), ("two", 1, "done", 42)]
    second = client.get(f"/live/frames/{news[1]['id']}").json
    assert second["frames"] == said.json["frames"][1:]
    image = client.get(f"/live/frames/{news[1]['id']}/image")
    height, width, step = map(int, image.headers["x-image-shape"].split(","))
    shown = np.frombuffer(image.body, np.uint8).reshape(height, width)
    assert step == 1 and np.corrcoef(shown.ravel(), frame[::-1].ravel().astype(float))[0, 1] > 0.99


@pytest.mark.parametrize(
    ("body", "headers", "query", "status", "reason"),
    [
        (b"not numpy", {"Content-Type": "application/x-npy"}, "", 422, "no .npy file"),
        (b"", {"Content-Type": "application/x-npy"}, "", 422, "no .npy file"),
        (b"x", {"Content-Type": "text/plain"}, "", 415, "Content-Type is text/plain"),
        (b"x", {}, "", 415, "Content-Type is missing"),
        (b"x" * 100, {**RAW, "X-Frame-Shape": "16,16", "X-Frame-Dtype": "uint8"}, "", 422, "takes 256 bytes; the body has 100"),
        (
            b"x",
            {**RAW, "X-Frame-Shape": "99999999,99999999", "X-Frame-Dtype": "uint8"},
            "",
            422,
            "takes 9999999800000001 bytes; the body has 1",
        ),
        (b"x", {**RAW, "X-Frame-Shape": "4", "X-Frame-Dtype": "uint8"}, "", 422, "wanted H,W"),
        (b"x", {**RAW, "X-Frame-Shape": "16,16", "X-Frame-Dtype": "object"}, "", 422, "wanted one of uint8"),
        (b"x", RAW, "", 422, "X-Frame-Shape"),
        (b"x", RAW, "?file=/etc/passwd", 422, "(none) are not taken"),
        (b"x", RAW, "?file=a.emi", 422, ".emi are not taken"),
        (b"x", RAW, "?file=a.emd", 422, "no emd file"),
        (b"x", RAW, "?file=a.tif", 422, "cannot be read as tif"),
        (b'{"image": [[1, 2], [3]]}', {"Content-Type": "application/json"}, "", 422, "at least 16"),
        (b'{"image": "x", "more": 1}', {"Content-Type": "application/json"}, "", 422, "valid array"),
        (b"x", {"Content-Type": "application/x-npy"}, "?pixel_size=-1", 422, "pixel_size"),
        (b"x", {"Content-Type": "application/x-npy"}, "?threshold=nan", 422, "threshold"),
    ],
)
def test_a_bad_body_is_refused_in_one_sentence(client, body, headers, query, status, reason):
    said = client.ask("POST", f"/analyze{query}", body, headers)
    assert said.status == status and reason in said.json["error"] and set(said.json) == {"error"}
    assert "/tmp" not in said.json["error"] and client.get("/health").json["waiting"] == 0


def test_frames_that_cannot_be_analysed_are_refused_with_the_reason(client, frame):
    for image, reason in (
        (np.ones((64, 64)), "constant"),
        (np.full((64, 64), np.nan), "no finite pixel"),
        (frame[:10], "smallest"),
        (frame > 90, "real numbers"),
    ):
        said = client.analyze(image)
        assert said.status == 422 and reason in said.json["error"], said.body
    news = client.get("/live/frames").json
    assert [(one["state"], one["columns"]) for one in news] == [("failed", None)] * 4
    assert "constant" in news[0]["why"] and "real numbers" in news[3]["why"]


def test_what_cannot_be_read_is_told_to_the_page_and_pushes_no_frame_out(client, frame):
    assert client.analyze(frame).status == 200
    for number in range(REFUSED + 3):
        assert client.ask("POST", f"/analyze?name=bad{number}", b"not numpy", {"Content-Type": "application/x-npy"}).status == 422
    good, *bad = client.get("/live/frames").json
    assert (good["state"], good["columns"]) == ("done", 42)
    assert [one["name"] for one in bad] == [f"bad{number}" for number in range(3, REFUSED + 3)]
    assert all(one["state"] == "failed" and "no .npy file" in one["why"] for one in bad)


def test_files_that_point_to_others_are_not_followed(client, frame, tmp_path):
    np.save(tmp_path / "secret.npy", frame)
    with h5py.File(tmp_path / "target.h5", "w") as file:
        file["image"] = frame.astype("f4")
    with h5py.File(tmp_path / "link.h5", "w") as file:
        file["group/image"] = h5py.ExternalLink(str(tmp_path / "target.h5"), "image")
    with h5py.File(tmp_path / "raw.h5", "w") as file:
        file.create_dataset("image", (96, 112), "u2", external=[(str(tmp_path / "secret.npy"), 128, 96 * 112 * 2)])
    with h5py.File(tmp_path / "virtual.h5", "w") as file:
        layout = h5py.VirtualLayout((96, 112), "f4")
        layout[:] = h5py.VirtualSource(str(tmp_path / "target.h5"), "image", (96, 112))
        file.create_virtual_dataset("image", layout)
    tifffile.imwrite(
        tmp_path / "ome.tif",
        frame,
        description='<?xml version="1.0"?><OME><TiffData><UUID FileName="/etc/other.tif">urn:uuid:1</UUID></TiffData></OME>',
    )
    shutil.copy(tmp_path / "link.h5", tmp_path / "link.nxs")
    for name in ("link.h5", "link.nxs", "raw.h5", "virtual.h5", "ome.tif"):
        said = client.ask("POST", f"/analyze?file={name}", (tmp_path / name).read_bytes(), RAW)
        assert said.status == 422 and "refers to another" in said.json["error"], (name, said.body)
    for name in ("a.h5", "a.hdf5", "a.nxs"):
        assert client.ask("POST", f"/analyze?file={name}&pixel_size=0.2", (tmp_path / "target.h5").read_bytes(), RAW).status == 200
    assert ".emi are not taken" in client.ask("POST", "/analyze?file=a.emi", b"x", RAW).json["error"], "it names an .ser beside it"


def test_frames_of_a_stack_without_signal_do_not_end_the_others(start, models, frame):
    client, _ = start(choose=lambda analysis: (models[1], str(len(_thinned(analysis).columns[0]) > 20)))
    stack = np.stack([np.full(frame.shape, 7), frame, np.zeros(frame.shape)]).astype(np.uint16)
    answer = client.analyze(stack, "?pixel_size=0.2&name=series").json
    alone = client.analyze(frame, "?pixel_size=0.2").json
    assert [one["n_columns"] for one in answer["frames"]] == [0, 42, 0]
    assert answer["frames"][1]["columns"] == alone["frames"][0]["columns"], "angles and latents too"
    assert any("2 of 3 frames failed and have no columns (frame 0: series: frame 0 is constant (7)" in said for said in answer["notices"])
    assert not any("No column was found" in said for said in answer["notices"])
    assert answer["notices"][-1] == "True", "the encoder is chosen by the frame that shows something"
    assert client.analyze(stack[[0, 2]]).status == 422, "nothing is left of this one"


def test_a_parameter_that_is_misspelt_is_refused(client, frame):
    said = client.analyze(frame, "?pixelsize=0.2")
    assert said.status == 422
    assert said.json["error"] == "query.pixelsize: is not known; wanted one of pixel_size, threshold, encode, name, file"


def test_what_holds_too_much_is_413_and_what_lies_about_it_422(client, tmp_path):
    with h5py.File(tmp_path / "large.h5", "w") as file:
        file.create_dataset("image", (20_000, 20_000), "f4", chunks=(1000, 1000), compression="gzip")
    with h5py.File(tmp_path / "false.h5", "w") as file:
        dataset = file.create_dataset("image", (64, 64), "f4", chunks=(64, 64), compression="gzip")
        dataset.id.write_direct_chunk((0, 0), zlib.compress(bytes(64 << 20), 9))
    for name, status, reason in (
        ("large.h5", 413, "the most taken is 67108864"),
        ("false.h5", 422, "16384 bytes unpacks to more"),
    ):
        said = client.ask("POST", f"/analyze?file={name}", (tmp_path / name).read_bytes(), RAW)
        assert said.status == status and reason in said.json["error"], said.body


def test_pickles_are_never_loaded(client):
    import io

    file = io.BytesIO()
    np.save(file, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    said = client.ask("POST", "/analyze", file.getvalue(), {"Content-Type": "application/x-npy"})
    assert said.status == 422


def test_a_body_too_large_or_too_slow_is_cut_off(start, frame):
    client, engine = start(max_mb=0.01, read_s=0.3)
    assert client.analyze(frame).status == 413
    with socket.create_connection(("127.0.0.1", client.port)) as line:  # says nothing of its length, and goes on
        line.sendall(b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\nTransfer-Encoding: chunked\r\n\r\n")
        line.sendall(b"4000\r\n" + b"x" * 0x4000 + b"\r\n")
        assert b" 413 " in line.recv(200)
    with socket.create_connection(("127.0.0.1", client.port)) as line:
        line.sendall(b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\nContent-Length: 500\r\n\r\nab")
        line.settimeout(5)
        assert b" 408 " in line.recv(200)
    with socket.create_connection(("127.0.0.1", client.port)) as line:  # hangs up in the middle
        line.sendall(b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\nContent-Length: 500\r\n\r\nab")
    time.sleep(0.1)
    assert engine.taken == 0


@pytest.mark.parametrize("closing", ["", "Connection: close\r\n"])
@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ("Host: localhost\r\nContent-Length: 12000000\r\n", 413),
        ("Host: evil.example\r\nContent-Length: 12000000\r\n", 403),
        ("Host: localhost\r\nContent-Type: text/html\r\nContent-Length: 12000000\r\n", 415),
    ],
)
def test_a_refusal_is_heard_by_a_client_that_still_sends(start, headers, status, closing):
    """No broken pipe: the answer is there at once, and the line takes the rest of the body."""
    client, engine = start(max_mb=10)
    kind = "" if "Content-Type" in headers else "Content-Type: application/x-npy\r\n"
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        line.sendall(f"POST /analyze HTTP/1.1\r\n{headers}{kind}{closing}\r\n".encode())
        said = line.recv(4000)
        assert f" {status} ".encode() in said.split(b"\r\n")[0]
        for _ in range(12):
            line.sendall(bytes(1_000_000))
            time.sleep(0.01)
        if b"connection: close" not in said.lower():
            line.sendall(b"GET /health HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
        while more := line.recv(4000):  # until the line is ended; it is not reset
            said += more
        assert said.count(b"HTTP/1.1 ") == 1 + (b" 200 OK" in said)
    assert engine.taken == 0


def test_a_client_that_never_stops_sending_is_cut_off(start, monkeypatch):
    monkeypatch.setattr(linger, "LINGER_S", 0.3)
    client, _ = start(max_mb=1)
    with socket.create_connection(("127.0.0.1", client.port), timeout=20) as line:
        line.sendall(b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\nContent-Length: 900000000\r\n\r\n")
        assert b" 413 " in line.recv(4000)
        with pytest.raises(OSError):
            for _ in range(200):
                line.sendall(bytes(1000))
                time.sleep(0.02)
    assert client.get("/health").status == 200


def test_a_full_queue_answers_429_and_recovers(start, frame, monkeypatch):
    client, engine = start(waiting=1)
    gate = threading.Event()
    inner = engine._analyse
    monkeypatch.setattr(engine, "_analyse", lambda *words: (gate.wait(10), inner(*words))[1])
    statuses = []
    threads = [threading.Thread(target=lambda: statuses.append(client.analyze(frame, "?pixel_size=0.2").status)) for _ in range(2)]
    for thread in threads:
        thread.start()
    while engine.taken < 2:
        time.sleep(0.01)
    said = client.analyze(frame)
    assert said.status == 429 and said.headers["retry-after"] == "1" and "all 2 places" in said.json["error"]
    assert client.get("/health").json["waiting"] == 2, "the server answers while it is busy"
    said = client.ask("POST", "/analyze", bytes(70_000_000), {"Content-Type": "application/x-npy"})
    assert said.status == 413, "what will never be taken is not told to try again"
    gate.set()
    for thread in threads:
        thread.join()
    assert statuses == [200, 200] and client.analyze(frame).status == 200


def test_a_client_waits_no_longer_than_it_must(start, frame, monkeypatch):
    client, engine = start(timeout_s=0.2)
    gate = threading.Event()
    inner = engine._analyse
    monkeypatch.setattr(engine, "_analyse", lambda *words: (gate.wait(10), inner(*words))[1])
    assert client.analyze(frame).status == 504
    assert engine.taken == 1, "the worker still holds the place"
    gate.set()
    while engine.taken:
        time.sleep(0.01)
    assert [one["state"] for one in client.get("/live/frames").json] == ["failed"]


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Host": "evil.example"}, 403),
        ({"Host": "localhost.evil.example"}, 403),
        ({"Host": "evil.example:80@localhost"}, 403),
        ({"Host": ""}, 403),
        ({"Host": "localhost:1"}, 200),
        ({"Host": "[::1]:8765"}, 200),
        ({"Origin": "http://evil.example"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "http://localhost:9999"}, 403),
    ],
)
def test_foreign_hosts_and_origins_are_refused(client, headers, status):
    said = client.get("/models", **headers)
    assert said.status == status
    assert not any(name.startswith("access-control") for name in said.headers)
    assert client.get("/models", Host="localhost:5", Origin="http://localhost:5").status == 200


def test_a_token_is_asked_of_everything_that_has_data(start, frame):
    client, _ = start(token=TOKEN)
    assert client.get("/models").status == 200 and client.analyze(frame).status == 200
    client.token = None
    for path in ("/models", "/metrics", "/live/frames", "/live/events", "/live/frames/1", "/nothing"):
        assert client.get(path).status == 401, path
    assert client.get("/models", Authorization="Bearer 0123456789abcdeX").status == 401
    assert client.analyze(frame).status == 401
    assert client.get("/health").status == 200 and client.get("/").status == 200


def test_no_token_no_other_machines():
    with pytest.raises(OutputError, match="can be reached from other machines"):
        ServeOptions(host="0.0.0.0")
    with pytest.raises(OutputError, match="too short"):
        ServeOptions(host="0.0.0.0", token="short")
    ServeOptions(host="0.0.0.0", token=TOKEN)
    ServeOptions(host="127.0.0.2")


@pytest.mark.parametrize(
    ("options", "shown"),
    [
        ({}, ["127.0.0.1"]),
        ({"host": "0.0.0.0", "token": TOKEN}, ["127.0.0.1", "scope-pc"]),
        ({"host": "0.0.0.0", "token": TOKEN, "names": ("microscope.lab", "scope")}, ["127.0.0.1", "microscope.lab"]),
        ({"host": "::1"}, ["[::1]"]),
        ({"host": "::", "token": TOKEN}, ["[::1]", "scope-pc"]),
    ],
)
def test_every_address_that_is_said_can_be_opened(start, monkeypatch, options, shown):
    monkeypatch.setattr(socket, "gethostname", lambda: "scope-pc")
    stated = ServeOptions(port=0, **options)
    try:
        line = _listening(stated)
    except OutputError:
        pytest.skip("no IPv6 on this machine")
    with line:
        said = addresses(line, stated)
        assert said == [f"http://{host}:{line.getsockname()[1]}/{'#token=…' if 'token' in options else ''}" for host in shown]
        socket.create_connection((urlsplit(said[0]).hostname, line.getsockname()[1]), 5).close()
    client, _ = start(**options)
    for url in said:
        assert client.get("/models", Host=urlsplit(url).netloc, Origin=url.split("/#")[0].rstrip("/")).status == 200, url
    assert client.get("/models", Host="0.0.0.0:8765").status == client.get("/models", Host="[::]:8765").status == 403


def test_only_known_files_of_the_page_are_given(client):
    assert client.get("/page/app.js").headers["content-type"].startswith("text/javascript")
    for path in ("/page/..%2fserver.py", "/page/__init__.py", "/page/../../errors.py", "/page/%2e%2e/server.py", "/etc/passwd"):
        said = client.get(path)
        assert said.status in (404, 405) and said.headers["content-type"] == "application/json"
    page = client.get("/")
    assert "script-src 'self'" in page.headers["content-security-policy"] and b"http" not in page.body, "nothing from elsewhere"


def test_models_metrics_and_the_api_page(client, frame):
    client.analyze(frame, "?pixel_size=0.2")
    assert [(model["id"], model["task"]) for model in client.get("/models").json] == [("blob@1", "segmentation"), ("dipole@1", "encoding")]
    metrics = client.get("/metrics").body.decode()
    assert "stemzoo_frames_total 1.0" in metrics and "stemzoo_columns_total 42.0" in metrics
    assert 'stemzoo_answers_total{route="/analyze",status="200"} 1.0' in metrics and 'stage="network"' in metrics
    client.get("/no/such/route/1")
    assert 'route="other"' in client.get("/metrics").body.decode(), "unknown paths do not multiply the metrics"
    paths = client.get("/openapi.json").json["paths"]
    assert {"/analyze", "/models", "/health", "/metrics"} <= set(paths)
    assert b"docs.js" in client.get("/docs").body


def test_news_arrive_as_they_happen(client, frame):
    with socket.create_connection(("127.0.0.1", client.port)) as line:
        line.settimeout(10)
        line.sendall(b"GET /live/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
        heard = b""
        while b'"frames": []' not in heard:
            heard += line.recv(4096)
        client.analyze(frame, "?pixel_size=0.2")
        while b'"done"' not in heard:
            heard += line.recv(4096)
    states = [part.split(b'"')[0].decode() for part in heard.split(b'"state": "')[1:]]
    assert states == ["analysing", "located", "done"]


def test_the_ring_keeps_few_frames(client, frame):
    from stemzoo.live.feed import Feed

    feed = Feed(most=3, most_bytes=4 * frame.size)
    for index in range(6):
        feed.show("x", index, frame)
    assert [one["frame"] for one in feed.all()] == [3, 4, 5]
    feed = Feed(most=30, most_bytes=2 * frame.size)
    for index in range(6):
        feed.show("x", index, frame)
    assert [one["frame"] for one in feed.all()] == [4, 5] and feed.get(1) is None
