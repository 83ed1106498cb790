"""Explaining a classifier: heatmaps of its evidence, and a map of similar images."""
