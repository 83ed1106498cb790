"""Predicting new images with an exported classifier: `python -m stages.predict`."""
