"""Pre-trained weights of other projects: names, layouts, files."""
