"""Training dense heads and blocks of networks with Keras, and searching for better heads."""
