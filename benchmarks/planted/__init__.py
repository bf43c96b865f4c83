"""Where do maps point, where the truth is known? Planted objects and two-particle subtomograms."""
