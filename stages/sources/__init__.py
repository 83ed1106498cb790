"""Sources of images: folders, archives, tables and URLs."""
