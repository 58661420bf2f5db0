"""What the Hugging Face Hub wants to find in a card's front matter, worked out from the card. Called by zoo.card on reading and writing.

These keys repeat facts for a reader that knows no others; they state none. A card that carries other values for them is refused.
"""

from __future__ import annotations

from typing import Any

KEYS = ("license", "license_name", "library_name", "pipeline_tag", "tags")
# The Hub's names for licences are SPDX in lower case; what it does not know goes by its name. Source: hf.co/docs/hub/repositories-licenses.
LICENCES = (
    "mit", "apache-2.0", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "cc0-1.0", "cc-by-4.0", "cc-by-sa-4.0", "cc-by-nc-4.0",
    "cc-by-nc-sa-4.0", "gpl-3.0", "lgpl-3.0", "agpl-3.0", "mpl-2.0", "unlicense", "isc",
)  # fmt: skip
PIPELINES = {"segmentation": "image-segmentation", "encoding": "image-feature-extraction"}


def hub_keys(task: str, licence: str) -> dict[str, Any]:
    """Return the Hub's keys for a card of that task and licence."""
    name = licence.lower().removesuffix("-only").removesuffix("-or-later")
    known = {"license": name} if name in LICENCES else {"license": "other", "license_name": licence}
    return {**known, "library_name": "stemzoo", "pipeline_tag": PIPELINES[task], "tags": ["stem", "microscopy", "onnx", task]}
