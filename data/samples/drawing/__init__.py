"""What a picture of `draw_yoga_figures.py` is made of."""
