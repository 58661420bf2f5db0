"""Crystals to frames with exact truth: recipes, columns, probe, rendering, noise, datasets. No torch."""

from stemzoo.simulation.frame import SimulatedFrame, simulate, simulate_series
from stemzoo.simulation.generate import draw_frames, simulate_dataset
from stemzoo.simulation.loading import load, shipped
from stemzoo.simulation.recipe import Recipe

__all__ = ["Recipe", "SimulatedFrame", "draw_frames", "load", "shipped", "simulate", "simulate_dataset", "simulate_series"]
