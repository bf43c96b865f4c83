"""What ``--target`` means on the command line."""

from respondcam.attribution.targets.words import ACCEPTED, parse_target, read_on_grid

__all__ = ["ACCEPTED", "parse_target", "read_on_grid"]
