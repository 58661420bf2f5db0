"""Clusters of latents: as many as there are, every column in its own, written to a table."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np

from stemzoo.report.clusters import cluster_figure, find_clusters, write_clusters
from stemzoo.report.field import field_of
from stemzoo.types import Analysis, Encoding


def blobs(sizes: tuple[int, ...], seed: int = 0) -> tuple[Encoding, np.ndarray]:
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(len(sizes)), sizes)
    latents = (np.stack([np.cos(2.1 * kind), np.sin(2.1 * kind)], 1) * 2 + rng.normal(0, 0.15, (len(kind), 2))).astype(np.float32)
    latents[::50] = np.nan
    n = len(kind)
    known = np.isfinite(latents).all(axis=1)
    return Encoding(np.zeros(n), np.ones(n), np.ones(n, int), latents, np.zeros(n, int), np.arange(n), known), kind


def test_the_criterion_finds_how_many_kinds_there_are_and_which_column_is_which() -> None:
    encoding, kind = blobs((120, 300, 80))
    found = find_clusters(encoding)
    assert found is not None and found.n == 3 and found.bic.argmin() == 2
    assert (found.label[~encoding.inside] == -1).all() and np.isnan(found.probability[~encoding.inside]).all()
    wanted = np.array([1, 0, 2])[kind]  # the largest first
    assert (found.label == wanted)[encoding.inside].all()


def test_one_kind_is_one_cluster_and_few_columns_are_none() -> None:
    encoding, _ = blobs((400,))
    found = find_clusters(encoding)
    assert found is not None and found.n == 1
    assert find_clusters(blobs((20,))[0]) is None


def test_the_table_names_every_column_once(tmp_path: Path) -> None:
    encoding, _ = blobs((60, 60))
    found = find_clusters(encoding)
    assert found is not None
    write_clusters(tmp_path / "c.csv", encoding, found)
    with (tmp_path / "c.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [int(row["column"]) for row in rows] == list(range(120))
    assert [row["cluster"] for row in rows] == [str(k + 1) if k >= 0 else "" for k in found.label]


def test_the_key_counts_the_columns_of_the_frame(analysis: Analysis) -> None:
    assert analysis.encoding is not None
    found = find_clusters(analysis.encoding)
    assert found is not None
    figure = cluster_figure(field_of(analysis), found, slice(0, len(analysis.columns[0])))
    said = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert [f"kind {k + 1}" in said for k in range(found.n)] == [True] * found.n
