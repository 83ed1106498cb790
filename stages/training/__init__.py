"""Dense heads and blocks of networks, trained by Keras; the search for better ones."""
