"""What every page needs: languages, templates, figures, thumbnails."""
