"""Pretrained networks: their builders, weights, engines, and how they are run."""
