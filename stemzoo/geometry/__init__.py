"""Where columns are: resampling, lattice, peaks, refinement, cutting, matching, angles. NumPy only; part of the instrument layer.

Every module is imported by its own name (`from stemzoo.geometry.refine import refine`); nothing is re-exported here.
"""
