"""Training with Lightning: segmenters and encoders, from datasets to checkpoints. Needs the extra `train`.

`train_segmenter`, `train_ensemble` and `train_encoder` make whole runs of a configuration, as `stemzoo train` does; `fit_encoder` fits one
in memory. For a Trainer of one's own the LightningModules are `SegmenterTask` and `EncoderTask`, their data `PatchData` and `SubImageData`.
"""

from stemzoo.training.checkpoints import load_for_export
from stemzoo.training.config import SegmenterConfig, load_config
from stemzoo.training.encoder_run import train_encoder
from stemzoo.training.encoding import EncoderTask
from stemzoo.training.encoding_config import EncoderConfig
from stemzoo.training.ensemble import train_ensemble
from stemzoo.training.fitting import encode_with, fit_encoder
from stemzoo.training.patches import PatchData
from stemzoo.training.run import Run
from stemzoo.training.segmentation import SegmenterTask
from stemzoo.training.segmenter_run import train_segmenter
from stemzoo.training.subimages import SubImageData
from stemzoo.training.weights import load_weights

__all__ = [
    "EncoderConfig",
    "EncoderTask",
    "PatchData",
    "Run",
    "SegmenterConfig",
    "SegmenterTask",
    "SubImageData",
    "encode_with",
    "fit_encoder",
    "load_config",
    "load_for_export",
    "load_weights",
    "train_encoder",
    "train_ensemble",
    "train_segmenter",
]
