"""The command line: one app, one file a group of commands, one way to fail.

A command parses, calls one public function and prints. Results go to stdout, progress and refusals to stderr. `main` returns 0 for success,
2 for usage and 1 for any error, ^C among them. Imports here are light, so that `stemzoo --help` answers at once.
"""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from types import FrameType
from typing import Annotated, Any

import typer

from stemzoo.cli import analysis, data, live, models, study, train, zoo
from stemzoo.cli.evaluate import evaluate
from stemzoo.errors import StemzooError, print_anything

INTERRUPTED = 130  # how the library below says that ^C ended a command
TRAIN = {"torch", "torchvision", "lightning", "torchmetrics", "onnx", "onnxscript", "safetensors", "skimage"}
"""What only the extra `train` brings: a command that needs it says so wherever it finds that out."""

app = typer.Typer(
    name="stemzoo",
    help="Atomic columns, local symmetry and a model zoo for atomic-resolution STEM.",
    epilog="Example: stemzoo analyze frame.dm4 --out frame_stemzoo",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
analysis.register(app)
live.register(app)
app.add_typer(data.data_app, name="data")
app.add_typer(train.train_app, name="train")
app.add_typer(study.study_app, name="study")
app.add_typer(zoo.zoo_app, name="zoo")
app.command("evaluate", epilog="Example: stemzoo evaluate adf-unet held_back.h5 --by dose --figure scores.png")(evaluate)
app.command("export", epilog="Example: stemzoo export run/checkpoints/best.ckpt --out my-unet/v1")(models.export)
app.command("quantise", epilog="Example: stemzoo quantise adf-unet --scores held_back.h5 --out my-zoo/adf-unet-int8/v1")(models.quantise)
app.command("bundle", epilog="Example: stemzoo bundle adf-unet rvae-sr3fe2o7 --out microscope")(models.bundle)
app.command("doctor", epilog="Example: stemzoo doctor --json")(models.doctor)


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and stop.")] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an unexpected error (also: STEMZOO_DEBUG=1). Anywhere on the line.")
    ] = False,
) -> None:
    if version:
        from stemzoo import __version__

        print(f"stemzoo {__version__}")
        raise typer.Exit()
    if context.invoked_subcommand is None:
        print(context.get_help())
        raise typer.Exit()


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code; the console script `stemzoo` and `python -m stemzoo` end with it."""
    print_anything()
    words = list(sys.argv[1:] if argv is None else argv)
    # NumPy's products here are small: a second thread of OpenBLAS waits more than it works. Read when NumPy is first imported.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    debug = "--debug" in words or os.environ.get("STEMZOO_DEBUG", "") not in ("", "0")
    words = [word for word in words if word != "--debug"]
    _die_like_interrupt()
    atexit.register(gc.freeze)  # a process that ends need not look for cycles among all that libraries keep: 0.2 s after a report
    try:
        typer.main.get_command(app).main(args=words, prog_name="stemzoo", standalone_mode=True)
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
        return code if code != INTERRUPTED else _interrupted()
    except KeyboardInterrupt:
        return _interrupted()
    except StemzooError as error:
        if debug:
            raise
        print(f"error: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115 - lives until the interpreter ends, so that its last flush is quiet
        return 1
    except MemoryError:
        if debug:
            raise
        print("error: out of memory; analyse fewer frames at once (--frames a:b)", file=sys.stderr)
        return 1
    except Exception as error:
        if debug:
            raise
        if isinstance(error, ModuleNotFoundError) and error.name in TRAIN:
            print(f"error: this command needs {error.name}, which is not installed; pip install 'stemzoo[train]'", file=sys.stderr)
            return 1
        where = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        print(f"error: unexpected {where}\nThis is a fault in stemzoo; run again with --debug and report the traceback", file=sys.stderr)
        return 1
    return 0


def _interrupted() -> int:
    print("interrupted; nothing half-written was left behind", file=sys.stderr)
    return 1


def _die_like_interrupt() -> None:
    """Let a polite kill (SIGTERM) clean up as ^C does; only the main thread may say so."""

    def stop(number: int, frame: FrameType | None) -> Any:
        raise KeyboardInterrupt

    try:
        signal.signal(signal.SIGTERM, stop)
    except ValueError:
        return
