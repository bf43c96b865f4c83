"""A layout: for every index of a tensor, the input position that it stands for.

Each dimension of a tensor is written as a mixed-radix number. Its digits, the most significant
first, each carry a size and a vector: one step of the digit moves the position by that vector.

    position(index) = offset + sum over dimensions and digits of vector * digit

Batch and channel digits have the zero vector. Splitting and merging dimensions (windows, tokens,
pixel shuffling) only regroups digits, so positions survive any number of views and permutations.
All arithmetic is on fractions, so two branches of a network agree exactly or not at all.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from fractions import Fraction

Vector = tuple[Fraction, ...]


class NoLayoutError(Exception):
    """The positions after an operator are not known; the message says why."""


def zero(rank: int) -> Vector:
    """Vector of `rank` zeros.

    Examples
    --------
    >>> zero(2)
    (Fraction(0, 1), Fraction(0, 1))
    """
    return (Fraction(0),) * rank


def moved(start: Vector, step: Vector, times: Fraction | int) -> Vector:
    """``start + times * step``.

    Examples
    --------
    >>> moved((Fraction(1),), (Fraction(2),), 3)
    (Fraction(7, 1),)
    """
    return tuple(a + times * b for a, b in zip(start, step, strict=True))


@dataclass(frozen=True)
class Digit:
    """One digit of a dimension: `size` values, each step moves by `vector` input voxels."""

    size: int
    vector: Vector
    batch: bool = False

    @property
    def positional(self) -> bool:
        """Whether different values of the digit stand for different positions."""
        return self.size > 1 and any(self.vector)


@dataclass(frozen=True)
class Dim:
    """One dimension of a tensor.

    `lead` and `trail` count entries before and after the digits that stand for no position, such
    as class tokens.
    """

    digits: tuple[Digit, ...] = ()
    lead: int = 0
    trail: int = 0

    @property
    def inner(self) -> int:
        """Number of entries that the digits number."""
        return math.prod(digit.size for digit in self.digits)

    @property
    def size(self) -> int:
        """Number of entries of the dimension."""
        return self.lead + self.inner + self.trail

    @property
    def ragged(self) -> bool:
        """Whether some entries stand for no position."""
        return self.lead > 0 or self.trail > 0

    @property
    def positional(self) -> bool:
        """Whether different entries stand for different positions."""
        return any(digit.positional for digit in self.digits)


@dataclass(frozen=True)
class Family:
    """Strided slices of one tensor: `token` names that tensor, the members span low to high."""

    token: object
    low: Vector
    high: Vector


@dataclass(frozen=True)
class Layout:
    """Where in an input every entry of a tensor is.

    Parameters
    ----------
    frame
        Which of the model's inputs the positions refer to.
    dims
        One per dimension of the tensor.
    offset
        Position of index zero (of the digits), in voxels of that input.
    radius
        Half-width of what an entry can depend on.
    below, above
        How far the true offset may lie below and above `offset`, where branches disagree.
    rolled
        Part of `offset` that comes from cyclic rolls.
    extent
        How much of an axis is left where the image was cut along it, in voxels of that input; 0
        along the axes that were not cut. What is picked or summed has no digit that could tell.
    family
        Set while the tensor is a strided slice, or a combination of such slices of one tensor.
    notes
        What happened on the way that a user should know.
    """

    frame: int
    dims: tuple[Dim, ...]
    offset: Vector
    radius: Vector
    below: Vector
    above: Vector
    rolled: Vector
    extent: Vector
    family: Family | None = field(default=None)
    notes: tuple[str, ...] = ()

    @property
    def rank(self) -> int:
        """Number of spatial axes of the input."""
        return len(self.offset)

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return tuple(dim.size for dim in self.dims)

    def plain(self, size: int) -> Dim:
        """Dimension of `size` entries that all stand for the same position.

        Examples
        --------
        >>> input_layout((1, 1, 4)).plain(3).positional
        False
        """
        return Dim((Digit(size, zero(self.rank)),))

    def with_dim(self, index: int, dim: Dim) -> "Layout":
        """Return the layout with one dimension replaced.

        Examples
        --------
        >>> layout = input_layout((1, 1, 4))
        >>> layout.with_dim(1, layout.plain(8)).shape
        (1, 8, 4)
        """
        index %= len(self.dims)
        return replace(self, dims=(*self.dims[:index], dim, *self.dims[index + 1 :]))

    def shifted(self, vector: Vector, times: Fraction | int) -> "Layout":
        """Return the layout with its offset moved.

        Examples
        --------
        >>> input_layout((1, 1, 4)).shifted((Fraction(1),), 2).offset
        (Fraction(2, 1),)
        """
        return replace(self, offset=moved(self.offset, vector, times), family=None)

    def widened(self, vector: Vector, times: Fraction | int) -> "Layout":
        """Return the layout with its radius grown.

        Examples
        --------
        >>> input_layout((1, 1, 4)).widened((Fraction(-1),), 2).radius
        (Fraction(2, 1),)
        """
        size = tuple(abs(component) for component in vector)
        return replace(self, radius=moved(self.radius, size, abs(times)), family=None)

    def uncertain(self, vector: Vector, times: Fraction | int) -> "Layout":
        """Return the layout with its interval grown on both sides.

        Examples
        --------
        >>> input_layout((1, 1, 4)).uncertain((Fraction(1),), 2).above
        (Fraction(2, 1),)
        """
        size = tuple(abs(component) for component in vector)
        below, above = moved(self.below, size, times), moved(self.above, size, times)
        return replace(self, below=below, above=above)


def input_layout(shape: Sequence[int], *, channel_dim: int = 1, frame: int = 0) -> Layout:
    """Layout of a model's input: (batch, channel, *spatial), every voxel at its own index.

    Examples
    --------
    >>> input_layout((2, 1, 8, 8)).rank
    2
    """
    rank = max(len(shape) - 2, 0)
    channel, axis = channel_dim % len(shape) if len(shape) > 1 else 1, 0
    dims: list[Dim] = []
    for index, size in enumerate(shape):
        vector = zero(rank)
        if index not in (0, channel):
            vector = (*vector[:axis], Fraction(1), *vector[axis + 1 :])
            axis += 1
        dims.append(Dim((Digit(size, vector, batch=index == 0),)))
    nothing = zero(rank)
    return Layout(frame, tuple(dims), nothing, nothing, nothing, nothing, nothing, nothing)
