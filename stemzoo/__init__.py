"""stemzoo: atomic columns, local symmetry and a model zoo for atomic-resolution STEM. Importing it loads no torch."""

__version__ = "0.1.0"
