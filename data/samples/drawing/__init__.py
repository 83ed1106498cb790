"""What an image of `draw_yoga_figures.py` is made of."""
