"""The arrows of the house: which room may import which, where torch may be, and what the instrument layer's Python 3.8 forbids.

Read from the source by AST, so nothing has to be importable; that no torch is loaded is proved by importing in a fresh process.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "stemzoo"

SHARED = {"types", "errors", "schema"}
ROOMS: dict[str, set[str]] = {
    "__init__": set(),
    "errors": set(),
    "types": {"errors"},
    "schema": {"errors"},
    "geometry": {"types", "errors"},
    "runtime": {"types", "errors", "geometry"},
    "io": {"types", "errors"},
    "simulation": SHARED | {"io"},
    "zoo": SHARED,
    "nets": {"types", "errors"},
    "training": SHARED | {"geometry", "io", "simulation", "nets"},
    "export": SHARED | {"runtime", "zoo", "nets", "training"},
    "report": SHARED | {"geometry", "runtime", "io"},
    "live": SHARED | {"runtime", "io", "report"},
    "validate": SHARED | {"io"},
    "label": SHARED | {"geometry", "runtime", "io", "validate"},
    "evaluate": SHARED | {"geometry", "runtime", "io", "zoo", "simulation", "report"},
    "doctor": SHARED | {"runtime", "zoo"},
    "release": SHARED | {"runtime", "zoo", "export", "training", "evaluate"},
    "quantise": SHARED | {"geometry", "runtime", "io", "zoo", "export", "evaluate"},
    "analyze": SHARED | {"geometry", "runtime", "io", "validate", "zoo", "report", "training", "export"},
}
ROOMS["cli"] = set(ROOMS) - {"__init__"}
ROOMS["__main__"] = {"cli"}
"""Room → the rooms it may import. A new room is a line here, and a reason in the commit."""

INSTRUMENT = ("types", "errors", "geometry", "runtime")
TORCH_ROOMS = ("nets", "training", "export")
TORCH_WHEN_ASKED = ("cli", "analyze", "release", "quantise")
"""Rooms that may import torch's rooms inside the functions that need them, never on loading."""
TORCH = {"torch", "torchvision", "torchmetrics", "lightning", "pytorch_lightning", "onnx", "onnxscript"}
SERVING = {PACKAGE / "live" / name for name in ("server.py", "listening.py", "pages.py", "refusal.py", "metrics.py")}
"""Files that need the extra `serve` on loading; the command line imports them when it serves."""
DISTRIBUTION = {
    "prometheus_client": "prometheus-client",
    "starlette": "fastapi",
    "PIL": "pillow",
    "dask_jobqueue": "dask-jobqueue",
    "rsciio": "rosettasciio",
    "skimage": "scikit-image",
    "sklearn": "scikit-learn",
    "yaml": "pyyaml",
}


def _files(*rooms: str) -> list[Path]:
    return sorted(path for path in PACKAGE.rglob("*.py") if not rooms or _room(path) in rooms)


def _room(path: Path) -> str:
    first = path.relative_to(PACKAGE).parts[0]
    return first.removesuffix(".py")


def _name(path: Path) -> str:
    return str(path.relative_to(REPOSITORY))


def _imports(tree: ast.AST, *, on_loading: bool = False) -> Iterator[tuple[str, int]]:
    """Yield each imported module with its line: `stemzoo.geometry.peaks` for `from stemzoo.geometry import peaks` too.

    With `on_loading`, leave out what only runs in a function, or never (under TYPE_CHECKING).
    """
    later = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: a relative import hides which room it reaches"
            yield from ((f"{node.module}.{alias.name}", node.lineno) for alias in node.names)
        elif on_loading and (isinstance(node, later) or (isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test))):
            continue
        else:
            yield from _imports(node, on_loading=on_loading)


def _tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


# --- arrows ------------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_a_room_imports_only_what_its_arrows_allow(path: Path) -> None:
    room = _room(path)
    assert room in ROOMS, f"{_name(path)} is in no room of the house; give it one in ROOMS"
    for module, line in _imports(_tree(path)):
        parts = module.split(".")
        if parts[0] != "stemzoo" or len(parts) < 2 or parts[1] in ("__version__", room):
            continue
        assert parts[1] in ROOMS[room], f"{_name(path)}:{line} imports stemzoo.{parts[1]}; {room} may import {sorted(ROOMS[room])}"


@pytest.mark.parametrize("room", [room for room in ROOMS if room != "cli"])
def test_every_arrow_is_walked(room: str) -> None:
    """One that nothing needs would let in what nobody meant."""
    walked = {module.split(".")[1] for path in _files(room) for module, _ in _imports(_tree(path)) if module.startswith("stemzoo.")}
    assert not ROOMS[room] - SHARED - walked


def test_the_arrows_have_no_cycle() -> None:
    seen: set[str] = set()
    for room, allowed in ROOMS.items():
        assert allowed <= seen | {"errors", "types"}, f"{room} is named before the rooms it imports: {sorted(allowed - seen)}"
        seen.add(room)


def test_contributing_draws_the_same_house() -> None:
    lines = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| `")]
    drawn = {room: said for names, _, said in rows for room in re.findall(r"`(\w+)`", names)}
    assert set(drawn) == {room for room in ROOMS if not room.startswith("__")}
    for room in drawn.keys() - SHARED - {"cli"}:
        assert set(filter(None, drawn[room].split(", "))) == ROOMS[room] - SHARED, room


@pytest.mark.parametrize("path", [p for p in _files() if _room(p) not in TORCH_ROOMS], ids=_name)
def test_torch_stays_in_its_rooms(path: Path) -> None:
    for module, line in _imports(_tree(path), on_loading=_room(path) in TORCH_WHEN_ASKED):
        assert module.split(".")[0] not in TORCH and not module.startswith("safetensors.torch"), f"{_name(path)}:{line} imports {module}"
        assert not re.match(r"stemzoo\.(nets|training|export)\b", module), f"{_name(path)}:{line} imports {module} on loading"


@pytest.mark.parametrize("path", _files("nets"), ids=_name)
def test_networks_know_no_lightning(path: Path) -> None:
    for module, line in _imports(_tree(path)):
        assert not re.match(r"(lightning|pytorch_lightning|torchmetrics)\b", module), f"{_name(path)}:{line} imports {module}"


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_one_file_runs_networks_and_one_quantises_them(path: Path) -> None:
    found = [module for module, _ in _imports(_tree(path)) if module.split(".")[0] == "onnxruntime"]
    if path == PACKAGE / "export" / "eightbits.py":
        assert all(module.startswith("onnxruntime.quantization") for module in found)
    else:
        assert not found or path == PACKAGE / "runtime" / "session.py"


@pytest.mark.parametrize("path", _files(*INSTRUMENT), ids=_name)
def test_instrument_layer_needs_numpy_alone(path: Path) -> None:
    allowed = {"numpy", "stemzoo"} | ({"onnxruntime"} if path.name == "session.py" else set())
    for module, line in _imports(_tree(path)):
        first = module.split(".")[0]
        assert first in allowed or first in sys.stdlib_module_names, f"{_name(path)}:{line} imports {module}"


# --- callers -----------------------------------------------------------------------------------------------------------------------------

CALLERS = re.compile(r"[Cc]alled by (.*?)(?:[;:](?=\s)|\.(?=\s|$)|$)")
NAMED = re.compile(r"(?:^|, |\band |\bor |\bby )(`?)(?:stemzoo\.)?\.?([a-z_]+(?:\.[a-z_]+)*)\1(?!['\w-])")


def _said_callers(path: Path) -> set[Path]:
    """Return the modules that a docstring names as callers: `room.module` anywhere, and a neighbour by its name alone."""
    text = " ".join((ast.get_docstring(_tree(path)) or "").split())
    names = [name for sentence in CALLERS.findall(text) for _, name in NAMED.findall(sentence)]
    here = path.parent if path.name != "__init__.py" else path.parent.parent
    places = [root.joinpath(*name.split(".")) for name in names for root in ((PACKAGE,) if "." in name else (here, PACKAGE))]
    return {file for place in places for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists() and file != path}


def _reaches(caller: Path, path: Path) -> bool:
    """Return whether a module, or one in the package it stands for, imports `path`, or names it in a table of what to import."""
    module = ".".join(path.relative_to(REPOSITORY).with_suffix("").parts).removesuffix(".__init__")
    for file in caller.parent.rglob("*.py") if caller.name == "__init__.py" else [caller]:
        tree = _tree(file)
        strings = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant)}
        if any(f"{name}.".startswith(f"{module}.") for name, _ in _imports(tree)) or (path.stem in strings and path.parent == file.parent):
            return True
    return False


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_who_is_said_to_call_a_module_imports_it(path: Path) -> None:
    for caller in _said_callers(path):
        assert _reaches(caller, path), f"{_name(path)} says that it is called by {_name(caller)}, which does not import it"


# --- scripts -----------------------------------------------------------------------------------------------------------------------------


def _module(name: str) -> Path | None:
    """Return the file of a module `stemzoo…`, or None where there is none of that name."""
    place = REPOSITORY.joinpath(*name.split("."))
    return next((file for file in (place.with_suffix(".py"), place / "__init__.py") if file.exists()), None)


def _defined(path: Path) -> set[str]:
    """Return the names that a module binds at its top level."""
    found: set[str] = set()
    for node in _tree(path).body:
        for part in ast.walk(node) if isinstance(node, ast.If | ast.Try | ast.For) else [node]:
            if isinstance(part, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                found.add(part.name)
            elif isinstance(part, ast.Import | ast.ImportFrom):
                found |= {(alias.asname or alias.name).split(".")[0] for alias in part.names}
            elif isinstance(part, ast.Assign | ast.AnnAssign):
                targets = part.targets if isinstance(part, ast.Assign) else [part.target]
                found |= {name.id for target in targets for name in ast.walk(target) if isinstance(name, ast.Name)}
    return found


SCRIPTS = sorted((REPOSITORY / "scripts").rglob("*.py"))


@pytest.mark.parametrize("path", SCRIPTS, ids=_name)
def test_what_a_script_takes_from_the_package_is_there(path: Path) -> None:
    """No other test runs most scripts, and documents quote their numbers."""
    tree, modules = _tree(path), {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and str(node.module).split(".")[0] == "stemzoo":
            home = _module(str(node.module))
            assert home, f"{_name(path)}:{node.lineno}: there is no {node.module}"
            for alias in node.names:
                if module := _module(f"{node.module}.{alias.name}"):
                    modules[alias.asname or alias.name] = module
                else:
                    assert alias.name in _defined(home), f"{_name(path)}:{node.lineno}: {node.module} has no {alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in modules:
            home = modules[node.value.id]
            assert node.attr in _defined(home), f"{_name(path)}:{node.lineno}: {_name(home)} has no {node.attr}"


# --- dependencies ------------------------------------------------------------------------------------------------------------------------


def _declared(extra: str | None) -> set[str]:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    lines = project["dependencies"] if extra is None else project["optional-dependencies"][extra]
    return {re.split(r"[<>=!~\[; ]", line)[0].lower() for line in lines}


@pytest.mark.parametrize("path", _files(), ids=_name)
def test_imports_are_declared(path: Path) -> None:
    """What a base room imports on loading is a base dependency; what it imports when used, or what torch's rooms need, is in an extra."""
    base = _declared(None)
    extras = base | _declared("io") | _declared("train") | _declared("dask") | _declared("serve") | _declared("hub")
    tree = _tree(path)
    lazy = set(_imports(tree)) - set(_imports(tree, on_loading=True))
    for module, line in _imports(tree):
        first = module.split(".")[0]
        if first == "stemzoo" or first in sys.stdlib_module_names:
            continue
        allowed = (
            extras if (module, line) in lazy or _room(path) in TORCH_ROOMS else base | (_declared("serve") if path in SERVING else set())
        )
        assert DISTRIBUTION.get(first, first).lower() in allowed, (
            f"{_name(path)}:{line} imports {module}, which pyproject.toml does not give it"
        )


def test_base_has_no_torch() -> None:
    assert not _declared(None) & {"torch", "torchvision", "lightning", "torchmetrics", "onnx"}


@pytest.mark.parametrize("module", ["stemzoo", "stemzoo.runtime", "stemzoo.zoo", "stemzoo.cli", "stemzoo.io.read", "stemzoo.report"])
def test_importing_loads_no_torch(module: str) -> None:
    code = f"import sys, {module}; print(*sorted({TORCH!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == []


# --- Python 3.8 and NumPy 1.19 -----------------------------------------------------------------------------------------------------------

TOO_NEW_ATTRIBUTES = {
    **dict.fromkeys(("removeprefix", "removesuffix", "is_relative_to", "with_stem", "readlink", "randbytes"), "Python 3.9"),
    **dict.fromkeys(("bit_count", "hardlink_to"), "Python 3.10"),
    **dict.fromkeys(
        ("functools.cache", "math.lcm", "math.nextafter", "math.ulp", "ast.unparse", "importlib.resources.files"), "Python 3.9"
    ),
    **dict.fromkeys(("itertools.pairwise", "bisect.key", "contextlib.aclosing", "sys.stdlib_module_names"), "Python 3.10"),
    **dict.fromkeys(("itertools.batched", "hashlib.file_digest", "math.cbrt", "math.exp2"), "Python 3.11"),
    **dict.fromkeys(("np.lib.stride_tricks.sliding_window_view", "np.broadcast_shapes"), "NumPy 1.20"),
    **dict.fromkeys(
        ("np.exceptions", "np.trapezoid", "np.bool", "np.long", "np.concat", "np.permute_dims", "np.astype", "np.pow"), "NumPy 2"
    ),
    **dict.fromkeys(("np.acos", "np.asin", "np.atan", "np.atan2", "np.isdtype", "np.unstack", "np.cumulative_sum", "np.vecdot"), "NumPy 2"),
}
GONE = {
    f"np.{name}": "NumPy 2 lacks it" for name in ("float_", "product", "cumproduct", "alltrue", "sometrue", "in1d", "trapz", "row_stack")
}
TOO_NEW_MODULES = {"tomllib", "graphlib", "zoneinfo", "importlib.resources.files", "functools.cache", "itertools.pairwise", "typing.Self"}
TOO_NEW_KEYWORDS = {"slots": "3.10", "kw_only": "3.10", "strict": "3.10", "weakref_slot": "3.11"}
BUILTIN_TYPES = {"int", "float", "str", "bytes", "bool", "list", "tuple", "dict", "set", "frozenset", "type", "object", "complex"}


def _annotations(tree: ast.AST) -> set[int]:
    """Return the ids of all nodes inside annotations, which `from __future__ import annotations` never evaluates."""
    inside: set[int] = set()
    for node in ast.walk(tree):
        for field in ("annotation", "returns"):
            part = getattr(node, field, None)
            if isinstance(part, ast.AST):
                inside |= {id(child) for child in ast.walk(part)}
    return inside


def too_new(source: str) -> list[str]:
    """Return what Python 3.8 or NumPy 1.19 would stumble over in `source`, as far as its syntax tree shows."""
    try:
        tree = ast.parse(source, feature_version=(3, 8))
    except SyntaxError as error:
        return [f"line {error.lineno}: {error.msg}"]
    found = []
    future = any(isinstance(n, ast.ImportFrom) and n.module == "__future__" and n.names[0].name == "annotations" for n in tree.body)
    has_code = any(not isinstance(n, ast.ClassDef | ast.Expr) for n in tree.body)
    if has_code and not future:
        found.append("line 1: no `from __future__ import annotations`")
    found += [f"line {line}: {module} is too new" for module, line in _imports(tree) if module in TOO_NEW_MODULES]
    annotations = _annotations(tree)
    for node in ast.walk(tree):
        if id(node) in annotations:
            continue
        if isinstance(node, ast.Match | ast.TryStar):
            found.append(f"line {node.lineno}: {type(node).__name__} is newer than Python 3.8")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr) and any(map(_is_type, (node.left, node.right))):
            found.append(f"line {node.lineno}: `X | Y` of types outside an annotation needs Python 3.10")
        elif isinstance(node, ast.Subscript) and isinstance(node.value, ast.Name) and node.value.id in BUILTIN_TYPES:
            found.append(f"line {node.lineno}: {node.value.id}[…] outside an annotation needs Python 3.9")
        elif (
            isinstance(node, ast.Subscript)
            and isinstance(node.slice, ast.Tuple)
            and any(isinstance(e, ast.Starred) for e in node.slice.elts)
        ):
            found.append(f"line {node.lineno}: a starred index needs Python 3.11")
        elif isinstance(node, ast.Call):
            name = ast.unparse(node.func)
            asks = {word.arg for word in node.keywords} & set(TOO_NEW_KEYWORDS)
            if asks and name.rsplit(".", 1)[-1] in ("dataclass", "zip", "field"):
                found += [f"line {node.lineno}: {name}({word}=) needs Python {TOO_NEW_KEYWORDS[str(word)]}" for word in asks]
        elif isinstance(node, ast.Attribute):
            full = ast.unparse(node)
            why = TOO_NEW_ATTRIBUTES.get(full) or TOO_NEW_ATTRIBUTES.get(node.attr) or GONE.get(full)
            if why:
                found.append(f"line {node.lineno}: {full} ({why})")
    return found


def _is_type(node: ast.AST) -> bool:
    if isinstance(node, ast.Constant):
        return node.value is None
    if isinstance(node, ast.Name):
        return node.id in BUILTIN_TYPES or (node.id[:1].isupper() and not node.id.isupper())
    return isinstance(node, ast.Attribute) and node.attr == "ndarray"


@pytest.mark.parametrize("path", _files(*INSTRUMENT), ids=_name)
def test_instrument_layer_is_python_3_8(path: Path) -> None:
    assert too_new(path.read_text(encoding="utf-8")) == []


FUTURE = "from __future__ import annotations\n"


@pytest.mark.parametrize(
    "source",
    [
        "import numpy as np\n",
        FUTURE + "match x:\n    case 1:\n        pass\n",
        FUTURE + "y = isinstance(x, int | None)\n",
        FUTURE + "Pair = tuple[int, int]\n",
        FUTURE + "from dataclasses import dataclass\n@dataclass(frozen=True, slots=True)\nclass A:\n    x: int\n",
        FUTURE + "z = list(zip(a, b, strict=True))\n",
        FUTURE + "with (open(a) as f, open(b) as g):\n    pass\n",
        FUTURE + "import functools\n@functools.cache\ndef f():\n    pass\n",
        FUTURE + "from functools import cache\n",
        FUTURE + "s = name.removesuffix('.npy')\n",
        FUTURE + "import numpy as np\nw = np.lib.stride_tricks.sliding_window_view(a, 3)\n",
        FUTURE + "import numpy as np\nw = np.trapz(a)\n",
        FUTURE + "v = a[*index]\n",
        FUTURE + "def f[T](x: T) -> T:\n    return x\n",
    ],
)
def test_the_check_for_python_3_8_catches(source: str) -> None:
    assert too_new(source) != []


def test_the_check_for_python_3_8_lets_pass() -> None:
    source = FUTURE + "import numpy as np\ndef f(x: int | None, y: list[int]) -> tuple[int, ...]:\n    return (a > 1) | (b < 2) | MASK\n"
    assert too_new(source) == []


def test_instrument_layer_compiles_in_a_real_python_3_8() -> None:
    """The tree is a proxy; where a Python 3.8 is installed, it has the last word."""
    installed = [*Path.home().glob(".pyenv/versions/3.8.*/bin/python"), Path("/usr/bin/python3.8"), Path("/usr/local/bin/python3.8")]
    old = next((python for python in installed if python.exists()), None)
    if old is None:
        pytest.skip("no Python 3.8 on this machine")
    code = "import sys\nfor f in sys.argv[1:]: compile(open(f, encoding='utf-8').read(), f, 'exec')"
    done = subprocess.run([str(old), "-c", code, *map(str, _files(*INSTRUMENT))], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
