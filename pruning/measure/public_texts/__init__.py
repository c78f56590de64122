"""Texts of several kinds, written for this package; nothing is chosen on them."""

from pathlib import Path

PUBLIC_TEXTS = Path(__file__).parent
