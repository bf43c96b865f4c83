"""The publication's experiments, made again: Zhao et al., MICCAI 2018, arXiv:1806.00102."""
