"""Crystals to frames with exact truth: recipes, columns, probe, rendering, noise, datasets. No torch."""

from stemzoo.simulation.generate import SimulatedFrame, draw_frames, simulate, simulate_dataset
from stemzoo.simulation.recipe import Recipe, load

__all__ = ["Recipe", "SimulatedFrame", "draw_frames", "load", "simulate", "simulate_dataset"]
