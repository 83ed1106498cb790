"""Pretrained networks: builders, weights, inference engines and forward passes."""
