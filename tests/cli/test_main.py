"""One way in and out: help at once, usage is 2, refusals are 1 with one message, ^C is 1 too."""

from __future__ import annotations

import ast
import io
import os
import re
import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from commandline import commands, options

import stemzoo
from stemzoo.cli.progress import bars
from stemzoo.errors import StemzooError

REPOSITORY = Path(__file__).resolve().parents[2]


def test_help_answers_in_half_a_second() -> None:
    """Processor time, so that a busy machine does not decide; best of three."""
    environment, best = {**os.environ, "PYTHONPATH": str(REPOSITORY)}, 9.9
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        done = subprocess.run([sys.executable, "-m", "stemzoo", "--help"], capture_output=True, text=True, env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        best = min(best, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
        assert done.returncode == 0 and "analyze" in done.stdout
    assert best < 0.5


@pytest.mark.parametrize("command", commands())
def test_every_command_helps_with_an_example(run: Callable[..., Any], command: str) -> None:
    ran = run(*command.split(), "--help")
    assert ran.code == 0 and f"stemzoo {command}" in ran.out.split("Example:")[1]


def test_no_option_is_declared_twice() -> None:
    """Two declarations of one option drift apart: what commands share is declared once and named by each."""
    said = [
        f"{ast.unparse(node.args[0])}: {ast.unparse(word.value)}"
        for path in sorted((REPOSITORY / "stemzoo" / "cli").glob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "typer.Option" and node.args
        for word in node.keywords
        if word.arg == "help"
    ]
    assert len(said) > 80 and {text for text in said if said.count(text) > 1} == set()


def test_messages_name_options_that_exist() -> None:
    """A refusal that tells one to pass what no command takes is no help."""
    known, named = set().union(*options().values()), set()
    for path in (REPOSITORY / "stemzoo").rglob("*.py"):
        if path.name in ("render.py", "wheels.py"):  # colours of a page, and the words of pip
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and "pip install" not in node.value:
                named |= {(option, path.name) for option in re.findall(r"(?<![\w-])--[a-z][a-z-]*", node.value)}
    assert len(named) > 100 and {(option, file) for option, file in named if option not in known} == set()


@pytest.mark.parametrize("group", ["", "data", "train", "study", "zoo", "zoo import", "zoo export"])
def test_lists_of_commands_are_not_cut_short(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, group: str) -> None:
    """On the narrowest terminal in use: a command's first sentence fits beside its name."""
    monkeypatch.setenv("COLUMNS", "80")
    listed = run(*group.split(), "--help").out.partition("Commands:")[2]
    assert listed and "..." not in listed


@pytest.mark.parametrize("words", [["analyse", "x"], ["analyze"], ["analyze", "x", "--nonsense"], ["analyze", "x", "--pixel-size", "abc"]])
def test_usage_errors_are_2_and_go_to_stderr(run: Callable[..., Any], words: list[str]) -> None:
    ran = run(*words)
    assert ran.code == 2 and ran.out == "" and ran.err


def test_a_process_that_ends_collects_no_garbage() -> None:
    """Looking for cycles among what matplotlib and onnxruntime keep takes longer than a figure."""
    code = (
        "import atexit, gc; atexit.register(lambda: print(gc.get_freeze_count() > 1000))\n"
        "from stemzoo.cli import main; main(['--version']); print(gc.get_freeze_count())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(REPOSITORY)})
    assert done.stdout.split()[-2:] == ["0", "True"], "only at the end, and then all of it"


def test_version(run: Callable[..., Any]) -> None:
    assert run("--version").out == f"stemzoo {stemzoo.__version__}\n"


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (StemzooError("the frame is upside down; turn it"), 1, "error: the frame is upside down; turn it\n"),
        (KeyboardInterrupt(), 1, "interrupted; nothing half-written was left behind\n"),
        (MemoryError(), 1, "error: out of memory; analyse fewer frames at once (--frames a:b)\n"),
    ],
)
def test_every_end_is_one_message(
    run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, frame: Path, error: BaseException, code: int, said: str
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("stemzoo.analyze.run", fail)
    ran = run("locate", frame)
    assert (ran.code, ran.out, ran.err) == (code, "", said)


def test_a_fault_of_ours_is_short_unless_debug(run: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, frame: Path) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("0 / 0")

    monkeypatch.setattr("stemzoo.analyze.run", fail)
    ran = run("locate", frame)
    assert ran.code == 1 and "ZeroDivisionError: 0 / 0" in ran.err and "--debug" in ran.err and "Traceback" not in ran.err
    with pytest.raises(ZeroDivisionError):
        run("locate", frame, "--debug")
    monkeypatch.setenv("STEMZOO_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run("locate", frame)


@pytest.mark.parametrize("words", [("quantise", "adf-unet", "--scores", "x.h5", "--out", "y"), ("export", "run", "--out", "y")])
def test_a_command_that_needs_torch_says_so_where_there_is_none(words: tuple[str, ...], tmp_path: Path) -> None:
    program = f"import sys; sys.modules['torch'] = None; from stemzoo.cli import main; sys.exit(main({list(words)!r}))"
    environment = {**os.environ, "PYTHONPATH": str(Path(stemzoo.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "error: this command needs torch, which is not installed; pip install 'stemzoo[train]'\n"


def test_a_bar_is_there_before_the_first_frame_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    """A frame of 8192² takes a minute, and is often the only one; that bar then becomes the first stage's."""

    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    screen = Terminal()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("TERM", "xterm")
    with bars("frame") as show:
        before = screen.getvalue()
        assert show is not None
        show("locate", 1, 1)
        show("write", 0, 1)
    assert "at work" in before and "0/?" in before and "0:00:00" in before
    last = screen.getvalue()[len(before) :]
    assert "locate" in last and "write" in last and "at work" not in last
