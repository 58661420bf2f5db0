"""Training with Lightning: segmenters and encoders, from datasets to checkpoints. Needs the extra `train`."""

from stemzoo.training.checkpoints import load_for_export
from stemzoo.training.config import SegmenterConfig, load_config
from stemzoo.training.ensemble import train_ensemble
from stemzoo.training.run import Run
from stemzoo.training.segmenter_run import train_segmenter

__all__ = ["Run", "SegmenterConfig", "load_config", "load_for_export", "train_ensemble", "train_segmenter"]
