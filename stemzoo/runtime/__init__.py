"""The one inference path: a bundle and a frame in, columns, angles and latents out. NumPy and onnxruntime only, Python 3.8 syntax.

`bundle` and `session` open a model folder, `golden` lets it prove itself, `segmenter` and `encoder` run the networks, `pipeline` composes
them with the geometry, `cutting` makes sub-images of columns, `tables` owns columns.csv. Importing this package loads neither torch nor
onnxruntime; opening a bundle loads onnxruntime.
"""

from __future__ import annotations

from stemzoo.runtime.bundle import Bundle, ModelSpec
from stemzoo.runtime.encoder import Encoder
from stemzoo.runtime.golden import verify
from stemzoo.runtime.pipeline import EncodeOptions, LocateOptions, analyze, encode, locate
from stemzoo.runtime.segmenter import Segmenter
from stemzoo.runtime.session import SessionOptions
from stemzoo.runtime.tables import read_columns, write_columns

__all__ = [
    "Bundle",
    "EncodeOptions",
    "Encoder",
    "LocateOptions",
    "ModelSpec",
    "Segmenter",
    "SessionOptions",
    "analyze",
    "encode",
    "locate",
    "read_columns",
    "verify",
    "write_columns",
]
