"""Which differences are rounding, and are shown as none."""

_NOISE = 1e-5  # of the image's part of the score


def without_noise(gap: float, part: float) -> float:
    """A gap as it is shown: zero where it is but rounding of what the image contributed.

    Examples
    --------
    >>> without_noise(-3e-7, 2.0), without_noise(-0.5, 2.0)
    (0.0, -0.5)
    """
    return 0.0 if abs(gap) <= _NOISE * abs(part) else gap
