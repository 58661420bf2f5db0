"""The zoo may not import the instrument layer, nor that the zoo: what both call by name, they call alike."""

from __future__ import annotations

from pathlib import Path

from stemzoo.runtime import bundle, manifest
from stemzoo.zoo import card, catalog, check, microscope


def test_zoo_and_instrument_layer_call_a_bundles_files_alike() -> None:
    assert (card.CARD_FILE, catalog.MODEL_FILE, check.WEIGHTS_FILE) == (bundle.CARD_FILE, bundle.MODEL_FILE, bundle.WEIGHTS_FILE)
    assert card.Golden(atol=1, rtol=1).file == bundle.GOLDEN_FILE in check.NEEDED_FILES
    assert check.METADATA_KEY == bundle.METADATA_KEY and microscope.MANIFEST_FILE == manifest.MANIFEST_FILE


def test_both_name_a_file_by_the_same_hash(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(bytes(range(256)) * 10_000)  # more than is read at once
    assert check.sha256_of(tmp_path / "a") == bundle.sha256_of(tmp_path / "a")
