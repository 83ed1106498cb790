"""Numbers and pictures from predictions. Never imports TensorFlow."""
