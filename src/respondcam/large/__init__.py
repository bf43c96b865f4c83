"""Volumes larger than a window: maps of every window, stitched into one store, out of core."""

from respondcam.large.job import LargeSettings
from respondcam.large.run import Outcome, explain_large

__all__ = ["LargeSettings", "Outcome", "explain_large"]
