"""Predictions of new images by an exported classifier: `python -m stages.predict`."""
