"""How each segmenter in model_cards/ was made: its data, its training in stages, what its card says.

A stage's keys are those of `SegmenterConfig`, its `data` names entries of the plan's own; `start` is the version that training goes on
from. Read by train_zoo, score_segmenter and compare_training.
"""

from __future__ import annotations

from typing import Any

ALIGNED = {
    "optics.defocus_nm": [-1.5, 1.5],
    "optics.astigmatism_nm": [0.0, 0.8],
    "optics.coma_nm": [0.0, 20.0],
    "optics.source_fwhm": [0.4, 0.8],
    "scan.row_jitter": [0.0, 0.03],
}
"""A well-aligned microscope: the universal recipe alone shows mostly probes that are not."""

SEGMENTERS: dict[str, dict[str, Any]] = {
    "adf-unet@1": {
        "data": {
            "universal": {"recipe": "universal", "n_frames": 1600, "seed": 1},
            "aligned": {"recipe": "universal", "n_frames": 900, "seed": 2, "settings": ALIGNED},
        },
        "stages": [
            {"data": ["universal"], "steps": 14000, "stop_after": 8500, "steps_per_epoch": 500, "seed": 1},
            {"data": ["universal", "aligned"], "steps": 4000, "learning_rate": 2e-3, "steps_per_epoch": 500, "seed": 2},
        ],
        "config": {"classes": ("column",), "precision": "bf16-mixed"},
        "card": {
            "title": "Atomic columns in ADF-STEM frames of any material",
            "summary": "Finds atomic columns in annular dark-field frames, whatever the lattice: one class, `column`.",
            "default": True,
            "limits": [
                "Trained on simulated frames only; a detector or a contrast far from them has not been seen.",
                "Columns nearer than about 1.2 Å merge into one; those fainter than a tenth of the brightest are no truth in training.",
                "Light columns beside heavy ones (oxygen in oxides) are not found in ADF contrast.",
                "Single atoms on thick or rough carbon at low contrast are found incompletely; see the evaluation by material.",
                "TEM, bright-field and iDPC contrast are outside its purpose.",
            ],
        },
    },
}


WIDE = {"frame.sampling": [0.12, 0.3]}
EMPTY = {"structure.density": [1e-7, 1e-6], "frame.size_px": 256, **WIDE}
"""Carbon and noise with hardly an atom: a network that never saw them finds columns in noise. The background is a share of the one atom's
mean over the field, hence the large numbers: from a fiftieth of an electron a pixel to a thousand."""

EMPTY_SHARES = (20.0, 2e2, 2e3, 2e4, 2e5)
EMPTIES: dict[str, dict[str, Any]] = {
    f"empty{share:g}": {
        "recipe": "atoms_on_carbon",
        "n_frames": 26,
        "seed": 60 + number,
        "settings": {
            **EMPTY,
            "specimen.background": [0.3 * share, 3 * share],
            "specimen.carbon": [0.0, 0.12 * share],
            "specimen.contamination": [0.0, 0.1 * share],
        },
    }
    for number, share in enumerate(EMPTY_SHARES)
}
SEGMENTERS["adf-unet@2"] = {
    "data": {
        "wide": {"recipe": "universal", "n_frames": 1400, "seed": 101, "settings": WIDE},
        "aligned": {"recipe": "universal", "n_frames": 700, "seed": 102, "settings": {**ALIGNED, **WIDE}},
        "atoms": {"recipe": "atoms_on_carbon", "n_frames": 350, "seed": 103, "settings": WIDE},
        "lattices": {"recipe": "random_lattice", "n_frames": 350, "seed": 104, "settings": WIDE},
        **EMPTIES,
    },
    "stages": [
        {
            "data": ["wide", "aligned", "atoms", "lattices", *EMPTIES],
            "steps": 13000,
            "learning_rate": 2e-3,
            "steps_per_epoch": 250,
            "seed": 11,
        },
    ],
    "start": "adf-unet@1",
    "config": {
        "classes": ("column",),
        "precision": "bf16-mixed",
        "sampling": {"min": 0.12, "nominal": 0.2, "max": 0.3},
        "augmentation": {"dose_factor": (0.25, 2.5)},
    },
    "threshold": 0.45,
    "card": {
        **SEGMENTERS["adf-unet@1"]["card"],
        "limits": [
            "Trained on simulated frames only; a detector or a contrast far from them has not been seen.",
            "Columns nearer than about 1.5 Å merge into one unless the probe parts them clearly; those fainter than a tenth of the "
            "brightest are no truth in training.",
            "Light columns beside heavy ones (oxygen in oxides) are not found in ADF contrast.",
            "Columns that their own electrons cannot place within 0.5 Å are mostly not found: see the evaluation by dose.",
            "Single atoms on thick or rough carbon at low dose are found incompletely; adf-unet-atoms knows nothing else.",
            "TEM, bright-field and iDPC contrast are outside its purpose.",
        ],
    },
}
NARROW = {"frame.sampling": [0.2, 0.3]}
"""What the network of version 3 sees: finer frames are resampled to 0.25 Å/px, which version 2 lost nothing by at a third of the work."""

SEGMENTERS["adf-unet@3"] = {
    "data": {
        "narrow": {"recipe": "universal", "n_frames": 1500, "seed": 201, "settings": NARROW},
        "aligned": {"recipe": "universal", "n_frames": 800, "seed": 202, "settings": {**ALIGNED, **NARROW}},
        "atoms": {"recipe": "atoms_on_carbon", "n_frames": 450, "seed": 203, "settings": NARROW},
        "lattices": {"recipe": "random_lattice", "n_frames": 350, "seed": 204, "settings": NARROW},
        **{key: {**entry, "seed": entry["seed"] + 200, "settings": {**entry["settings"], **NARROW}} for key, entry in EMPTIES.items()},
    },
    "stages": [
        {
            "data": ["narrow", "aligned", "atoms", "lattices", *EMPTIES],
            "steps": 13000,
            "learning_rate": 2e-3,
            "steps_per_epoch": 250,
            "seed": 21,
        },
    ],
    "start": "adf-unet@2",
    "config": {
        **SEGMENTERS["adf-unet@2"]["config"],
        "sampling": {"min": 0.2, "nominal": 0.25, "max": 0.3},
        "augmentation": {"dose_factor": (0.2, 2.0)},
    },
    "threshold": 0.45,
    "card": {
        **SEGMENTERS["adf-unet@2"]["card"],
        "limits": [
            *SEGMENTERS["adf-unet@2"]["card"]["limits"],
            "On the carbon around a bright particle it may take texture for columns at high dose.",
        ],
    },
}
FILMS = {"specimen.carbon": [3.0, 14.0], "specimen.background": [5.0, 60.0]}
"""Films whose own speckle comes near to the atoms on them: what version 3 finds least."""

SEGMENTERS["adf-unet@4"] = {
    "data": {
        "narrow": {"recipe": "universal", "n_frames": 1200, "seed": 401, "settings": NARROW},
        "aligned": {"recipe": "universal", "n_frames": 600, "seed": 402, "settings": {**ALIGNED, **NARROW}},
        "atoms": {"recipe": "atoms_on_carbon", "n_frames": 600, "seed": 403, "settings": NARROW},
        "films": {"recipe": "atoms_on_carbon", "n_frames": 400, "seed": 404, "settings": {**FILMS, **NARROW}},
        "lattices": {"recipe": "random_lattice", "n_frames": 400, "seed": 405, "settings": NARROW},
        "platinum": {"recipe": "platinum_particle", "n_frames": 120, "seed": 406, "settings": NARROW},
        "gold": {"recipe": "gold_110", "n_frames": 120, "seed": 407, "settings": NARROW},
        **{key: {**entry, "seed": entry["seed"] + 400, "settings": {**entry["settings"], **NARROW}} for key, entry in EMPTIES.items()},
    },
    "stages": [
        {
            "data": ["narrow", "aligned", "atoms", "films", "lattices", "platinum", "gold", *EMPTIES],
            "steps": 5000,
            "learning_rate": 1.2e-3,
            "steps_per_epoch": 250,
            "seed": 41,
        },
    ],
    "start": "adf-unet@3",
    "config": SEGMENTERS["adf-unet@3"]["config"],
    "threshold": 0.4,
    "card": SEGMENTERS["adf-unet@3"]["card"],
}
CROWDED = {"structure.density": [0.02, 0.05]}
BLURRED = {
    "optics.source_fwhm": [1.0, 2.4],
    "specimen.grain": [0.6, 1.2],
    "specimen.carbon": [0.2, 8.0],
    "specimen.background": [3.0, 80.0],
    "scan.flicker": [0.0, 0.02],
}
"""Atoms under an uncorrected probe, up to three times as wide as those before, on films that it blurs as well."""

SEGMENTERS["adf-unet@5"] = {
    "data": {
        "narrow": {"recipe": "universal", "n_frames": 1000, "seed": 501, "settings": NARROW},
        "aligned": {"recipe": "universal", "n_frames": 500, "seed": 502, "settings": {**ALIGNED, **NARROW}},
        "atoms": {"recipe": "atoms_on_carbon", "n_frames": 1000, "seed": 503, "settings": NARROW},
        "films": {"recipe": "atoms_on_carbon", "n_frames": 800, "seed": 504, "settings": {**FILMS, **NARROW}},
        "faint": {
            "recipe": "atoms_on_carbon",
            "n_frames": 800,
            "seed": 510,
            "settings": {**FILMS, **CROWDED, **NARROW},
        },
        "blurred": {"recipe": "atoms_on_carbon", "n_frames": 500, "seed": 509, "settings": {**BLURRED, **NARROW}},
        "lattices": {"recipe": "random_lattice", "n_frames": 300, "seed": 505, "settings": NARROW},
        "oxide": {"recipe": "sr3fe2o7", "n_frames": 100, "seed": 508, "settings": NARROW},
        "platinum": {"recipe": "platinum_particle", "n_frames": 100, "seed": 506, "settings": NARROW},
        "gold": {"recipe": "gold_110", "n_frames": 100, "seed": 507, "settings": NARROW},
        **{key: {**entry, "seed": entry["seed"] + 500, "settings": {**entry["settings"], **NARROW}} for key, entry in EMPTIES.items()},
    },
    "stages": [
        {
            "data": ["narrow", "aligned", "atoms", "films", "blurred", "lattices", "oxide", "platinum", "gold", *EMPTIES],
            "steps": 7000,
            "learning_rate": 1.2e-3,
            "steps_per_epoch": 250,
            "seed": 51,
        },
        {
            "data": ["narrow", "aligned", "atoms", "films", "faint", "blurred", "lattices", "oxide", "platinum", "gold", *EMPTIES],
            "steps": 7000,
            "learning_rate": 1.5e-3,
            "steps_per_epoch": 250,
            "seed": 52,
        },
    ],
    "start": "adf-unet@4",
    "kept": "last",
    "prose": "segmenter_shapes.md",
    "config": SEGMENTERS["adf-unet@3"]["config"],
    "threshold": 0.38,
    "card": SEGMENTERS["adf-unet@3"]["card"],
}
FAST = {
    "classes": ("column",),
    "precision": "bf16-mixed",
    "fold": 4,
    "widths": (32, 64, 96, 128),
    "depths": (2, 2, 1, 1),
    "sampling": {"min": 0.12, "nominal": 0.2, "max": 0.3},
    "augmentation": {"dose_factor": (0.25, 2.5)},
}
"""2.5 GFLOP a 512² frame in place of 6.3: the first layer works on pixels folded four by four."""

SEGMENTERS["adf-unet-nano@1"] = {
    "data": {
        "universal": {"recipe": "universal", "n_frames": 1600, "seed": 1},
        "aligned": {"recipe": "universal", "n_frames": 700, "seed": 2, "settings": {**ALIGNED, **WIDE}},
        "wide": {"recipe": "universal", "n_frames": 1000, "seed": 41, "settings": WIDE},
        **EMPTIES,
    },
    "stages": [
        {"data": ["universal", "aligned"], "steps": 7000, "stop_after": 2750, "steps_per_epoch": 250, "seed": 3},
        {"data": ["wide", "aligned"], "steps": 3250, "learning_rate": 2.5e-3, "steps_per_epoch": 250, "seed": 4},
        # Sharp frames to the very end: without them the network comes to take the oxygen of oxides, which is no truth, for columns.
        *(
            {
                "data": ["wide", "aligned", *2 * list(EMPTIES)],
                "steps": steps,
                "learning_rate": 2e-3,
                "steps_per_epoch": 250,
                "seed": seed,
            }
            for steps, seed in ((3250, 4), (4000, 5), (5000, 6))
        ),
    ],
    "config": FAST,
    "card": {
        **SEGMENTERS["adf-unet@1"]["card"],
        "title": "Atomic columns in ADF-STEM frames of any material, at a third of the cost",
        "summary": "Finds atomic columns as adf-unet does, with 2.5 GFLOP a 512² frame in place of 6.3: for frames as they are scanned.",
        "default": False,
        "limits": [
            *SEGMENTERS["adf-unet@1"]["card"]["limits"],
            "On sharp frames of oxides it takes some oxygen for columns, and at low dose it misses more than adf-unet.",
            "Its first two stages saw frames of an earlier simulation: scripts/train_zoo.py makes a like network, not these weights.",
        ],
    },
}
SEGMENTERS["adf-unet-atoms@1"] = {
    "data": {
        "atoms": {"recipe": "atoms_on_carbon", "n_frames": 320, "seed": 51, "settings": WIDE},
        "more": {"recipe": "atoms_on_carbon", "n_frames": 320, "seed": 52, "settings": WIDE},
        **EMPTIES,
    },
    "stages": [
        {"data": ["atoms"], "steps": 2000, "learning_rate": 1.5e-3, "steps_per_epoch": 250, "seed": 51},
        {"data": ["atoms", "more", *EMPTIES], "steps": 2500, "learning_rate": 1.5e-3, "steps_per_epoch": 250, "seed": 52},
    ],
    "start": "adf-unet-nano@1",
    "judged_on": "atoms_on_carbon",
    "threshold": 0.38,  # where one in two is an atom, by the calibration
    "config": FAST,
    "card": {
        "title": "Single heavy atoms on amorphous carbon",
        "summary": "Finds single heavy atoms on carbon: F1 0.86 on held-back frames where adf-unet@1 has 0.38, and 0.93 where that has "
        "0.73 on 84 labelled Re atoms.",
        "default": False,
        "limits": [
            "Trained on simulated frames of Pt, Re and Pd atoms on carbon only; light atoms and other supports have not been seen.",
            "For crystals use adf-unet: this network has not been scored on them.",
            "Atoms nearer than about 2 Å merge into one; on thick or rough carbon about half of them are missed.",
            "Trained from an earlier state of adf-unet-nano: scripts/train_zoo.py makes a like network, not these weights.",
        ],
    },
}


EIGHT_BITS = {"adf-unet-int8@1": "adf-unet@4", "adf-unet-int8@2": "adf-unet@5", "adf-unet-int8@3": "adf-unet@5"}
"""Variants in eight bits, by the version that they are made of."""
