"""Sources of labelled images, one file per layout of files."""

from prunepolicy.agents.images.sources.registry import ImageSource, SourceImages, image_sources, read_images

__all__ = ["ImageSource", "SourceImages", "image_sources", "read_images"]
