"""Every refusal stemzoo makes, by name. The instrument layer, the package and the command line raise nothing else on purpose.

A message names the object, the value it had, the value wanted and the next step; the command line prints it alone and exits with 1, on
whatever the process prints to.
"""

from __future__ import annotations

import io
import sys
from contextlib import contextmanager
from typing import Iterator, Type


class StemzooError(Exception):
    """Base of every refusal; `str(error)` is the one message that a user sees."""


class ReadError(StemzooError):
    """A file cannot be read as image frames."""


class ShapeError(StemzooError):
    """An array has the wrong number of axes, or is too small for what was asked."""


class FrameError(StemzooError):
    """A frame carries no usable signal: all NaN, constant, or without columns where columns are needed."""


class PixelSizeError(StemzooError):
    """A pixel size is missing, not positive, not square or outside what can be handled."""


class ModelError(StemzooError):
    """A model, bundle or zoo entry is unknown, damaged or of the wrong kind."""


class CardError(StemzooError):
    """A model card breaks the schema or disagrees with the files beside it."""


class RecipeError(StemzooError):
    """A simulation recipe or training configuration breaks its schema."""


class StructureError(StemzooError):
    """A crystal structure cannot be read, oriented or projected."""


class DatasetError(StemzooError):
    """An HDF5 dataset is damaged, of an unknown schema or inconsistent with itself."""


class ExportError(StemzooError):
    """An exported network does not reproduce the network it came from."""


class OutputError(StemzooError):
    """A result cannot be written where it was asked for."""


class TableError(StemzooError):
    """A table of columns lacks a field, or a field cannot be read."""


@contextmanager
def needs_extra(extra: str, what: str, refusal: Type[StemzooError] = ModelError) -> Iterator[None]:
    """Refuse `what`, a few words such as "training", where an import in the `with` block lacks what the package's `extra` brings.

    An import of stemzoo's own that fails is a fault, and is let through. Raises: `refusal`.
    """
    try:
        yield
    except ImportError as error:
        if (error.name or "").split(".")[0] == "stemzoo":
            raise
        lacking = f"{error.name}, which is not installed"
        if error.name is None or not isinstance(error, ModuleNotFoundError):  # of another version, or a library's own words
            lacking = f"{error.name or 'a package'}, which cannot be imported ({' '.join(str(error).split())})"
        raise refusal(f"{what} needs {lacking}; pip install 'stemzoo[{extra}]'") from error


def storable(text: str) -> str:
    """Return a file's name as UTF-8 can hold it: letters of an older encoding, as on a share from before Unicode, are escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def print_anything() -> None:
    """Let this process print characters that its output cannot encode, escaped, rather than fail at one; command lines call it first.

    Windows gives output that goes to a file or a pipe its code page, which lacks the σ or Å of a sentence, or a letter of a file's name.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
