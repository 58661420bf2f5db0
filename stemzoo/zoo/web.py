"""Bytes from a zoo of the web. Owns how a root becomes addresses, what a server may answer, resuming, and the kept copies of indexes.

A file is downloaded by pooch into a temporary file, compared with the sha256 that the index lists, and renamed; the downloader here adds
what pooch leaves open: a broken download goes on where it stopped, no more bytes are taken than were announced, and a redirect leads to no
other kind of address. Proxies and ~/.netrc are as requests finds them in the environment. Called by zoo.fetch.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import tempfile
import urllib.parse
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.util.retry import Retry

import stemzoo
from stemzoo.errors import ModelError, OutputError, needs_extra
from stemzoo.zoo.index import INDEX_FILE, MAX_INDEX, Listed, parse_index
from stemzoo.zoo.settings import WebRoot, cache_root, offline

Tick = Callable[[int, int], None]
CONNECT, READ = 5.0, 30.0  # seconds
REDIRECTS = 5
ATTEMPTS = 3
BLOCK = 1 << 16
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


class Unreachable(ModelError):
    """A zoo did not answer, or broke off: what is there of it may be used, and a half download continued."""


def work_root() -> Path:
    """Return the folder of half downloads, locks and indexes: in the cache, where its rename into place is one step."""
    return cache_root() / ".web"


def address(root: WebRoot, path: str) -> str:
    """Return the URL of `path` below a root. Raises: ModelError for an `hf://` root that is none, or without huggingface_hub."""
    if not root.url.lower().startswith("hf://"):
        return f"{root.url}/{urllib.parse.quote(path)}"
    repository, _, revision = root.url[5:].partition("@")
    if repository.count("/") != 1:
        raise ModelError(f"{root}: wanted hf://org/repo or hf://org/repo@revision")
    return str(_hub().hf_hub_url(repository, path, revision=revision or None))


def _hub() -> Any:
    with needs_extra("hub", "a zoo on the Hugging Face Hub"):
        import huggingface_hub
    return huggingface_hub


def _headers(root: WebRoot) -> dict[str, str]:
    """Return the headers of a request to the root's own host; the Hub's token is sent nowhere else."""
    headers = {"User-Agent": f"stemzoo/{stemzoo.__version__}", "Accept-Encoding": "identity"}
    if root.url.lower().startswith("hf://"):
        token = _hub().get_token()
        headers |= {"Authorization": f"Bearer {token}"} if token else {}
    return headers


@contextlib.contextmanager
def _answer(root: WebRoot, url: str, extra: dict[str, str]) -> Iterator[requests.Response]:
    """Give the final answer to a request, redirects followed by hand.

    Raises: ModelError for an error of the server, a redirect to another kind of address, or too many of them.
    """
    headers = {**_headers(root), **extra}
    host = urllib.parse.urlsplit(url).netloc
    with requests.Session() as session:
        patient = HTTPAdapter(max_retries=Retry(total=2, backoff_factor=0.3, status_forcelist=(502, 503, 504), redirect=False))
        session.mount("http://", patient)
        session.mount("https://", patient)
        for _ in range(REDIRECTS + 1):
            with session.get(url, headers=headers, stream=True, allow_redirects=False, timeout=(CONNECT, READ)) as response:
                if not response.is_redirect:
                    if response.status_code not in (200, 206, 416):
                        raise ModelError(f"{url}: the server answered {response.status_code} {response.reason}; check the zoo's address")
                    if response.headers.get("Content-Encoding", "identity") != "identity":
                        raise ModelError(f"{url}: the server compressed the file by itself; wanted its bytes as they are")
                    yield response
                    return
                target = urllib.parse.urljoin(url, response.headers["Location"])
            before, after = urllib.parse.urlsplit(url), urllib.parse.urlsplit(target)
            if after.scheme != "https" and (after.scheme, before.scheme) != ("http", "http"):
                raise ModelError(f"{url}: the server redirects to {target!r}; wanted {before.scheme}://… or https://…: nothing was fetched")
            if after.netloc != host:
                headers.pop("Authorization", None)
            url = target
    raise ModelError(f"{url}: more than {REDIRECTS} redirects; check the zoo's address")


def read_index(root: WebRoot, note: Callable[[str], None]) -> tuple[Listed, ...]:
    """Return what a zoo of the web lists; where it cannot be asked, what it listed when it was last asked.

    Args: `note` is told in one sentence if the listing is an old one.
    Raises: Unreachable if there is neither; ModelError for an index that is refused.
    """
    kept = work_root() / "index" / f"{hashlib.sha256(root.url.encode()).hexdigest()[:24]}.json"
    if offline():
        if not kept.is_file():
            raise Unreachable(f"{root}: was never asked, and STEMZOO_OFFLINE forbids asking; unset it, or name directories only")
        return parse_index(kept.read_bytes(), f"{root}/{INDEX_FILE}")
    url = address(root, INDEX_FILE)
    try:
        content = b""
        with _answer(root, url, {}) as response:
            for block in response.iter_content(BLOCK):
                content += block
                if len(content) > MAX_INDEX:
                    raise ModelError(f"{url}: more than {MAX_INDEX:,} bytes; no index of a zoo is that large")
    except _BROKEN as error:
        if not kept.is_file():
            raise Unreachable(f"{root}: cannot be reached ({_reason(error)}); check the address, the network and the proxy") from None
        note(f"{root} cannot be reached ({_reason(error)}); what follows is from when it was last asked")
        return parse_index(kept.read_bytes(), url)
    except requests.RequestException as error:
        raise ModelError(f"{url}: cannot be asked ({_reason(error)}); check the zoo's address") from None
    listed = parse_index(content, url)
    with contextlib.suppress(OSError):  # a cache that cannot be written only means asking again
        kept.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=kept.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(content)
        os.replace(name, kept)
    return listed


def _reason(error: BaseException) -> str:
    """Return the innermost cause of a failed request, without the addresses of objects in it."""
    while True:
        inner = getattr(error, "reason", None) or (error.args[0] if error.args else None)
        if not isinstance(inner, BaseException):
            break
        error = inner
    text = str(error.args[0]) if error.args else type(error).__name__
    return text.rsplit(">: ", 1)[-1][:200]


def download(root: WebRoot, path: str, folder: Path, sha256: str, size: int, tick: Tick | None = None) -> Path:
    """Return the file that lies at `path` below a root, fetched into `folder` unless it is there already.

    Args:
        sha256, size: what the index says; nothing else is accepted. A half download of these bytes is continued.
        tick: called with (bytes done, bytes in all).
    Raises: Unreachable if the server breaks off again and again; ModelError if it gives anything else; OutputError if the disk fails.
    """
    import pooch

    pooch.get_logger().setLevel("ERROR")
    url = address(root, path)
    name = path.rsplit("/", 1)[-1]
    part = folder / f"{name}.part"

    def take(_: str, output: str, __: Any) -> None:
        _resume(root, url, part, size, tick)
        os.replace(part, output)

    resumed = part.exists()
    try:
        fetched = pooch.retrieve(url, known_hash=f"sha256:{sha256}", fname=name, path=folder, downloader=take)
    except ValueError:
        part.unlink(missing_ok=True)
        if resumed:  # the half that was there may have been of other bytes
            return download(root, path, folder, sha256, size, tick)
        raise ModelError(
            f"{url}: its bytes do not have the sha256 {sha256} that the zoo's index lists; nothing was kept: tell whoever keeps that zoo"
        ) from None
    except OSError as error:
        if isinstance(error, requests.RequestException):
            raise ModelError(f"{url}: cannot be fetched ({_reason(error)}); pull again") from None
        raise OutputError(f"{folder}: cannot be written ({error.strerror}); name another cache in STEMZOO_CACHE") from None
    return Path(fetched)


def _resume(root: WebRoot, url: str, part: Path, size: int, tick: Tick | None) -> None:
    """Bring `part` to `size` bytes, continuing what is there. Raises: ModelError; what came until a broken connection is kept."""
    failure = ""
    for _ in range(ATTEMPTS):
        have = part.stat().st_size if part.exists() else 0
        if have == size:
            return
        if have > size:
            part.unlink()
            have = 0
        try:
            with _answer(root, url, {"Range": f"bytes={have}-"} if have else {}) as response:
                goes_on = response.status_code == 206 and response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
                have = have if goes_on else 0
                announced = response.headers.get("Content-Length", "")
                if response.status_code == 416 or (announced.isdigit() and have + int(announced) != size):
                    part.unlink(missing_ok=True)
                    raise ModelError(f"{url}: the server has {have + int(announced or 0):,} bytes; the zoo's index lists {size:,}")
                with part.open("ab" if goes_on else "wb") as file:
                    for block in response.iter_content(BLOCK):
                        have += len(block)
                        if have > size:
                            break
                        file.write(block)
                        if tick is not None:
                            tick(have, size)
            if have == size:
                return
            part.unlink()
            more = "more than " if have > size else ""
            raise ModelError(f"{url}: the server sent {more}{min(have, size):,} bytes; the zoo's index lists {size:,}")
        except _BROKEN as error:
            failure = _reason(error)
    done = part.stat().st_size if part.exists() else 0
    raise Unreachable(f"{url}: the connection broke off after {done:,} of {size:,} bytes ({failure}); pull again to go on from there")
