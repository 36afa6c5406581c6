"""Pretrained weights of other projects: names, layouts, files."""
