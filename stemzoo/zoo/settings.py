"""Where zoos are: STEMZOO_ZOO, the configuration file, the cache, and whether the network may be used. Reads the environment at each call.

The configuration file is TOML, `zoo = ["https://zoo.example/models", "/data/zoo"]` and `offline = true`; STEMZOO_CONFIG names another one.
Called by zoo.catalog for directories and by zoo.fetch for roots of the web; loads nothing that is slow.
"""

from __future__ import annotations

import os
import re
import urllib.parse
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stemzoo.errors import ModelError

KEYS = ("offline", "zoo")
SCHEMES = ("http", "https", "hf")
# A URL ends at a separator; the colons of its scheme, of an address in brackets and of a port are no separators.
_URL = r"[A-Za-z][A-Za-z0-9+.-]*://(?:[^,/@]*@)?(?:\[[^\]]*\])?[^,:;/]*(?::\d+)?[^,:;]*"


@dataclass(frozen=True)
class WebRoot:
    """A zoo of the web: `https://…`, `http://…`, or `hf://org/repo@revision` for the Hugging Face Hub."""

    url: str

    def __str__(self) -> str:
        return self.url


def named_roots() -> list[Path | WebRoot]:
    """Return the zoos that the user named, in order: those of STEMZOO_ZOO, then those of the configuration file.

    Raises: ModelError for a directory that is missing, a URL that is none, or a configuration that cannot be read.
    """
    stated = os.environ.get("STEMZOO_ZOO", "")
    texts = [text.strip() for text in re.findall(rf"{_URL}|[^,{re.escape(os.pathsep)}]+", stated)]
    found = [_root(text, "STEMZOO_ZOO") for text in texts if text]
    configured = _configuration().get("zoo", [])
    if not isinstance(configured, list) or not all(isinstance(text, str) and text for text in configured):
        raise ModelError(f"{config_path()}: zoo is {configured!r}; wanted a list of directories and URLs")
    return list(dict.fromkeys([*found, *(_root(text, str(config_path())) for text in configured)]))


def web_roots() -> list[WebRoot]:
    """Return the zoos of the web that the user named, in order. Raises: ModelError as `named_roots`."""
    return [root for root in named_roots() if isinstance(root, WebRoot)]


def _root(text: str, source: str) -> Path | WebRoot:
    scheme, separator, rest = text.partition("://")
    if not separator:
        root = Path(text).expanduser()
    elif scheme.lower() == "file":
        root = Path(urllib.request.url2pathname(urllib.parse.urlsplit(text).path))
    elif scheme.lower() in SCHEMES and rest.strip("/") and "@" not in (rest.split("/")[0]):
        return WebRoot(text.rstrip("/"))
    else:
        shown = re.sub("//[^/@]*@", "//…@", text)
        raise ModelError(
            f"{source} names {shown!r}; wanted a directory, file:///…, https://…, http://… or hf://org/repo@revision, "
            "without a password: those belong into ~/.netrc"
        )
    if not root.is_dir():
        raise ModelError(
            f"{source} names {root}, which is not a directory; set it to existing zoo directories, separated by {os.pathsep!r}, or to URLs"
        )
    return root


def cache_root() -> Path:
    """Return where fetched models lie, whether or not it exists yet: STEMZOO_CACHE, else the system's place for caches."""
    stated = os.environ.get("STEMZOO_CACHE")
    if stated:
        return Path(stated).expanduser()
    import platformdirs

    return Path(platformdirs.user_cache_dir("stemzoo", appauthor=False)) / "models"


def config_path() -> Path:
    """Return where the configuration file is, or would be."""
    stated = os.environ.get("STEMZOO_CONFIG")
    if stated:
        return Path(stated).expanduser()
    import platformdirs

    return Path(platformdirs.user_config_dir("stemzoo", appauthor=False)) / "config.toml"


def offline() -> bool:
    """Return whether the network is forbidden: STEMZOO_OFFLINE=1, else the configuration's `offline`."""
    stated = os.environ.get("STEMZOO_OFFLINE")
    if stated is not None:
        return stated.strip().lower() not in ("", "0", "no", "false")
    return _configuration().get("offline", False) is True


def _configuration() -> dict[str, Any]:
    path = config_path()
    if not path.is_file():
        return {}
    import tomllib

    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: not a readable configuration ({error}); wanted TOML with {' and '.join(KEYS)}") from None
    unknown = sorted(table.keys() - set(KEYS))
    if unknown:
        raise ModelError(f"{path}: unknown key {unknown[0]!r}; known here: {', '.join(KEYS)}")
    return table
