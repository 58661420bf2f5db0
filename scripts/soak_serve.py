"""Let 64 clients talk to `stemzoo serve` at once, a tenth of their requests malformed, and prove that it neither falls over nor grows.

    python scripts/soak_serve.py --minutes 10 [--clients 64] [--size 256]

Every client sends frames as fast as it is answered; where it is told 429 it waits and tries again. Malformed are: bodies cut short, of the
wrong type, too large, pickles, lies about shape, wild query values, foreign hosts, half a request and then silence, and connections dropped
in the middle. Printed are answers by status, latency percentiles of the served, and the server's memory over time. Fails on any answer with
500, on a malformed request that was served, on a good one refused for anything but 429, on any line that was closed without an answer, or
where the server is gone at the end. Requests during which all of it was stopped from outside (SIGSTOP, a suspended machine) are counted
apart: deadlines may have passed meanwhile.
"""

from __future__ import annotations

import argparse
import http.client
import io
import os
import pickle
import random
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from soak_clock import Clock

REPOSITORY = Path(__file__).resolve().parents[1]
NPY = {"Content-Type": "application/x-npy"}
RAW = {"Content-Type": "application/octet-stream"}
CLOSED = 0  # stands for a status where there was no answer
IDLE_S = 10.0  # the server closes a line that was idle for 15 s, so a client that waited so long opens another


@dataclass
class Seen:
    """What the clients saw."""

    answers: Counter[tuple[str, int]] = field(default_factory=Counter)
    latency: list[float] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    stopped: int = 0
    clock: Clock = field(default_factory=Clock)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def note(self, kind: str, status: int, seconds: float, body: bytes) -> None:
        """Note an answer that took so many seconds."""
        now = time.time()
        with self.lock:
            if self.clock.stopped(now - seconds - 1, now):
                self.stopped += 1
                return
            self.answers[kind, status] += 1
            if kind == "good" and status == 200:
                self.latency.append(seconds)
            if status >= 500 or status == CLOSED or (kind == "good" and status not in (200, 429)) or (kind != "good" and status == 200):
                self.wrong.append(f"{kind}: {status} {body[:200]!r}")


def npy(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, image)
    return file.getvalue()


def frame(size: int) -> np.ndarray:
    """Return a frame (size, size) uint16 of columns 15 px apart."""
    at = np.arange(10, size - 8, 15.0)
    profile = np.exp(-((np.arange(size)[:, None] - at) ** 2) / 8.0).sum(axis=1)
    image: np.ndarray = np.random.default_rng(0).poisson(40 + 400 * profile[:, None] * profile).astype(np.uint16)
    return image


def malformed(rng: random.Random, good: bytes) -> tuple[str, str, bytes, dict[str, str]]:
    """Return (kind, path, body, headers) of a request that must not be served."""
    noise = rng.randbytes(rng.randrange(1, 4000))
    return rng.choice(
        [
            ("cut short", "/analyze", good[: rng.randrange(len(good))], NPY),
            ("noise", "/analyze", noise, NPY),
            ("wrong type", "/analyze", good, {"Content-Type": "text/html"}),
            ("no type", "/analyze", good, {}),
            ("too large", "/analyze", bytes(9 << 20), NPY),
            ("pickle", "/analyze", pickle.dumps({"a": 1}), NPY),
            ("false shape", "/analyze", noise, {**RAW, "X-Frame-Shape": "70000,70000", "X-Frame-Dtype": "float64"}),
            ("wild query", f"/analyze?pixel_size={rng.choice(['nan', '-1', '1e999', 'x'])}", good, NPY),
            ("no tif", "/analyze?file=a.tif", noise, RAW),
            ("no emd", "/analyze?file=..%2F..%2Fa.emd", noise, RAW),
            ("bad json", "/analyze", b'{"image": [[1,2],' + noise, {"Content-Type": "application/json"}),
            ("flat", "/analyze?pixel_size=0.2", npy(np.zeros((64, 64))), NPY),
            ("foreign host", "/analyze", good, {**NPY, "Host": "evil.example"}),
            ("foreign page", "/analyze", good, {**NPY, "Origin": "http://evil.example"}),
            ("no route", "/page/..%2f..%2fserver.py", good, NPY),
            ("half", "", good[:1000], NPY),
            ("hang up", "", good[:1000], NPY),
        ]
    )


def half(port: int, kind: str, body: bytes, seen: Seen) -> None:
    """Send half a request; then wait for the refusal, or hang up."""
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port), timeout=90) as line:
        line.sendall(
            b"POST /analyze HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-npy\r\nContent-Length: 100000\r\n\r\n" + body
        )
        if kind == "half":
            said = line.recv(1000)
            seen.note(kind, int(said.split()[1]) if said else CLOSED, time.monotonic() - began, said)


def client(number: int, port: int, good: bytes, until: float, seen: Seen) -> None:
    """Send requests until the clock says `until`."""
    rng, connection = random.Random(number), http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    used = time.monotonic()
    while seen.clock.now() < until:
        if time.monotonic() - used > IDLE_S:
            connection.close()
        kind, path, body, headers = "good", f"/analyze?pixel_size=0.2&name=client-{number}", good, NPY
        if rng.random() < 0.1:
            kind, path, body, headers = malformed(rng, good)
        began = time.monotonic()
        try:
            if kind in ("half", "hang up"):
                half(port, kind, body, seen)
                continue
            reused = connection.sock is not None
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            text = answer.read()
        except (OSError, http.client.HTTPException) as error:
            took, idle = time.monotonic() - began, began - used
            connection.close()
            seen.note(kind, CLOSED, took, f"{error!r} after {took:.1f} s; line {'idle for' if reused else 'new,'} {idle:.1f} s".encode())
            continue
        used = time.monotonic()
        seen.note(kind, answer.status, used - began, text)
        if answer.status == 429:
            time.sleep(rng.uniform(0.5, 1.5) * float(answer.headers["Retry-After"]))
    connection.close()


def resident_mb(pid: int) -> float:
    text = Path(f"/proc/{pid}/status").read_text()
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("VmRSS")) / 1024


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--size", type=int, default=256)
    options = parser.parse_args()
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    words = [sys.executable, "-m", "stemzoo", "serve", "--port", "0", "--max-mb", "8"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True, env=environment)
    assert server.stdout is not None
    port = int(server.stdout.readline().strip().rstrip("/").rsplit(":", 1)[1])
    good, seen = npy(frame(options.size)), Seen()
    client(0, port, good, 5.0, Seen())  # warm
    began = seen.clock.now()
    until = began + 60 * options.minutes
    threads = [threading.Thread(target=client, args=(number, port, good, until, seen)) for number in range(options.clients)]
    for thread in threads:
        thread.start()
    memory = []
    while seen.clock.now() < until and server.poll() is None:
        memory.append((seen.clock.now() - began, resident_mb(server.pid)))
        time.sleep(2)
    for thread in threads:
        thread.join()
    alive = server.poll() is None
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/health")
    health = connection.getresponse().read().decode() if alive else "gone"
    wrong = report(seen, memory, alive, health)
    server.terminate()
    server.wait()
    return wrong


def report(seen: Seen, memory: list[tuple[float, float]], alive: bool, health: str) -> int:
    """Print what was seen; return 0 where nothing went wrong."""
    statuses, kinds = Counter[str](), Counter[str]()
    for (kind, status), count in seen.answers.items():
        statuses["closed" if status == CLOSED else str(status)] += count
        kinds["good" if kind == "good" else "malformed"] += count
    at, mb = np.array(memory).T
    fifth = max(len(mb) // 5, 1)
    print(f"{sum(statuses.values())} requests in {at[-1] / 60:.1f} min, {dict(kinds)}; answers {dict(sorted(statuses.items()))}")
    print(f"stopped from outside {len(seen.clock.gaps)} times, {seen.clock.stopped():.0f} s in all, {seen.stopped} requests meanwhile")
    if seen.latency:
        shown = ", ".join(f"{q} % {np.percentile(seen.latency, q):.2f}" for q in (50, 90, 95, 99))
        print(f"served: {len(seen.latency)}, {len(seen.latency) / at[-1]:.2f}/s; latency [s]: {shown}, worst {max(seen.latency):.2f}")
    late = mb[len(mb) // 2 :]
    slope = np.polyfit(at[len(mb) // 2 :] / 60, late, 1)[0] if len(late) > 5 else float("nan")
    ends = f"first fifth {np.median(mb[:fifth]):.0f}, last {np.median(mb[-fifth:]):.0f}"
    print("memory [MB] over time: " + " ".join(f"{value:.0f}" for value in mb[:: max(1, len(mb) // 20)]))
    print(f"memory [MB]: {ends}, peak {mb.max():.0f}; second half {slope:+.2f} MB/min")
    print(f"server at the end: {health}")
    for line in dict.fromkeys(seen.wrong):
        print("WRONG", line)
    bad = bool(seen.wrong) or not alive or not seen.latency
    print("nothing went wrong" if not bad else f"{len(seen.wrong)} things went wrong")
    return int(bad)


if __name__ == "__main__":
    sys.exit(main())
