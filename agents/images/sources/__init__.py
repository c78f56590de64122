"""Sources of labelled images, one file per layout of files."""

from prunepolicy.agents.images.sources.registry import Found, ImageSource, image_sources, read_images

__all__ = ["Found", "ImageSource", "image_sources", "read_images"]
