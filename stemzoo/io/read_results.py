"""An analysis.h5 back to an Analysis, as the report needs it. io.results owns the layout. Called by readers of results."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from stemzoo.errors import ReadError
from stemzoo.io.hdf5_claims import attribute, check_array, check_file
from stemzoo.io.results import SCHEMA
from stemzoo.types import ENCODING_FIELDS, Analysis, Columns, Encoding, Frames, ModelId


def read_results(path: Path) -> Analysis:
    """Return the Analysis behind an analysis.h5, as the report needs it.

    Its frames hold frame 0 only: asking for a later one raises ReadError naming the input file.
    Raises: ReadError if the file is missing, damaged, of a newer schema or not an analysis.
    """
    path = Path(path)
    try:
        check_file(path)
        with h5py.File(path, "r") as file:
            schema = int(attribute(file, "stemzoo_schema", 0))
            if schema == 0:
                raise ReadError(f"{path}: an HDF5 file, but not an analysis; wanted analysis.h5 from stemzoo analyze")
            if schema > SCHEMA:
                raise ReadError(f"{path}: schema {schema}; this stemzoo reads up to {SCHEMA}: upgrade stemzoo")
            file.visititems(_check)
            return _analysis(file["entry"])
    except OSError as error:
        why = error.strerror or str(error).split("(")[0].strip()
        raise ReadError(f"{path}: cannot be read as HDF5 ({why}); wanted analysis.h5 from stemzoo analyze") from error
    except (KeyError, ValueError, TypeError, RuntimeError, MemoryError) as error:
        raise ReadError(f"{path}: damaged, a part is missing or does not fit ({error}); run stemzoo analyze again") from error


def _check(name: str, item: h5py.Group | h5py.Dataset) -> None:
    """Refuse tables and texts that cannot lie in a file of this size: reading them would fill the memory. Raises: ValueError."""
    if isinstance(item, h5py.Dataset):
        check_array(item)


@dataclass(frozen=True, slots=True)
class FirstFrame:
    """A stack of which only frame 0 was kept; behaves as (T, H, W) data."""

    image: np.ndarray
    n_frames: int
    path: str

    @property
    def shape(self) -> tuple[int, int, int]:
        """(T, H, W)."""
        return (self.n_frames, int(self.image.shape[0]), int(self.image.shape[1]))

    @property
    def dtype(self) -> np.dtype[Any]:
        """Of the frame."""
        return self.image.dtype

    def __getitem__(self, index: int) -> np.ndarray:
        if index != 0:
            raise ReadError(f"frame {index} is not kept in analysis.h5, which holds frame 0; read it from {self.path}")
        return self.image


def _analysis(entry: h5py.Group) -> Analysis:
    facts = entry["provenance"]

    def text(name: str) -> str:
        return str(facts[name].asstr()[()])

    path, n_frames = text("input"), int(facts["n_frames"][()])
    data = FirstFrame(entry["frame/data"][()], n_frames, path)
    frames = Frames(
        data=data,
        pixel_size=float(facts["pixel_size"][()]) if "pixel_size" in facts else None,
        pixel_size_source=text("pixel_size_source"),
        path=path,
        sha256=text("input_sha256"),
        metadata=json.loads(text("metadata")),
        notices=tuple(json.loads(text("reader_notices"))),
    )
    encoding = None
    if "encoding" in entry:
        values = {name: entry["encoding"][name][()] for name in ENCODING_FIELDS}
        values["inside"] = values["inside"].astype(bool)
        encoding = Encoding(**values)
    return Analysis(
        frames=frames,
        columns=_columns(entry["columns"]),
        segmenter=ModelId(text("segmenter"), text("segmenter_sha256")),
        encoding=encoding,
        encoder=ModelId(text("encoder"), text("encoder_sha256")) if "encoder" in facts else None,
        sampling_factor=float(facts["sampling_factor"][()]),
        window_px=float(facts["window"][()]) if "window" in facts else None,
        notices=tuple(json.loads(text("notices"))),
        seconds=json.loads(text("seconds")),
        version=text("stemzoo_version"),
        sampling=float(facts["sampling"][()]) if "sampling" in facts else None,
        doubts=tuple(json.loads(text("doubts"))) if "doubts" in facts else (),
    )


def _columns(group: h5py.Group) -> tuple[Columns, ...]:
    per_frame = json.loads(str(group["per_frame"].asstr()[()]))
    names = ("y_px", "x_px", "sigma_y_px", "sigma_x_px", "species", "intensity", "confidence", "fit_ok")
    values = {name: group[name][()] for name in names}
    values["agreement"] = group["agreement"][()] if "agreement" in group else np.full(len(values["y_px"]), np.nan)  # since 0.2
    ends = np.cumsum([0, *(table["n"] for table in per_frame)])
    tables = []
    for k, table in enumerate(per_frame):
        part = {name: array[ends[k] : ends[k + 1]] for name, array in values.items()}
        tables.append(
            Columns(
                yx=np.stack([part["y_px"], part["x_px"]], axis=1),
                sigma=np.stack([part["sigma_y_px"], part["sigma_x_px"]], axis=1),
                species=part["species"],
                intensity=part["intensity"],
                confidence=part["confidence"],
                fit_ok=part["fit_ok"],
                classes=tuple(table["classes"]),
                pixel_size=table["pixel_size"],
                frame=table["frame"],
                agreement=part["agreement"],
            )
        )
    return tuple(tables)
