"""What users point at: folders, archives, tables and URLs of images."""
