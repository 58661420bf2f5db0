"""Datasets held against themselves: schema, truth on intensity, no leak into validation. Called by the command line and by labelling."""

from stemzoo.validate.datasets import Finding, Verdict, validate_datasets

__all__ = ["Finding", "Verdict", "validate_datasets"]
