"""Backbones, weights, heads, training and inference."""
