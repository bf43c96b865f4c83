r"""ROAD's fill: missing voxels from their neighbours, so that their shape is no clue.

Rong, Leemann, Borisov, Kasneci, Kasneci: A consistent and efficient evaluation strategy for
attribution methods (ICML 2022, arXiv:2202.00449). Each missing voxel is the weighted mean of its
neighbours, missing ones included, plus a little noise:

.. math:: x_i = \sum_{j \in N(i)} w_{ij} x_j \Big/ \sum_{j \in N(i)} w_{ij} + \sigma\, n_i

a sparse linear system for all missing voxels together. The paper gives the weights in 2-D, 1/6 for
neighbours along an axis and 1/12 for diagonal ones: proportional to one over the squared distance.
That rule is used here in every rank: 26 neighbours in 3-D, weighted 1, 1/2 and 1/3.

The system is symmetric and positive definite, and is solved by conjugate gradients on the device,
all images at once, from a guess made by filling in from coarser grids. The noise is a share of the
image's deviation (in the paper an absolute 0.01 on standardised images).
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from respondcam.errors import InputError

_MOST_STEPS = 1000


def impute(
    images: Float[Tensor, "batch channel *spatial"],
    missing: Bool[Tensor, "batch *spatial"],
    *,
    noise: float = 0.01,
    tolerance: float = 1e-3,
    seed: int = 0,
) -> Float[Tensor, "batch channel *spatial"]:
    """Fill the missing voxels in from the others.

    Parameters
    ----------
    images, missing
        What is known where `missing` is False.
    noise
        Its deviation, as a share of each image's and channel's own.
    tolerance
        Of the linear system: residual over right-hand side.
    seed
        Of the noise.

    Raises
    ------
    InputError
        If an image has no voxel left.

    Examples
    --------
    >>> line = torch.tensor([[[1.0, 9.0, 9.0, 4.0]]])
    >>> gap = torch.tensor([[False, True, True, False]])
    >>> impute(line, gap, noise=0.0, tolerance=1e-6)
    tensor([[[1., 2., 3., 4.]]])
    """
    if bool(missing.flatten(1).all(dim=1).any()):
        raise InputError(
            "All voxels of an image are missing, so there is nothing to fill them in from."
        )
    gone = missing[:, None].to(images.dtype)
    solved = _solve(images, gone, tolerance)
    if noise:
        generator = torch.Generator().manual_seed(seed)
        drawn = torch.randn(images.shape, generator=generator).to(images)
        grid = tuple(range(2, images.ndim))
        solved = solved + noise * images.std(dim=grid, keepdim=True) * drawn
    return torch.where(missing[:, None], solved, images)


def _solve(images: Tensor, gone: Tensor, tolerance: float) -> Tensor:
    """Conjugate gradients of ``degree u - neighbours(u) = neighbours(known)`` where `gone` is 1."""
    degree = neighbour_sum(torch.ones_like(gone[:1]))
    right = gone * neighbour_sum(images * (1 - gone))

    def apply(u: Tensor) -> Tensor:
        return gone * (degree * u - neighbour_sum(u))

    def dot(a: Tensor, b: Tensor) -> Tensor:
        return (a * b).flatten(2).sum(dim=2).view(*a.shape[:2], *[1] * (a.ndim - 2))

    solution = gone * _guess(images, gone)
    residual = right - apply(solution)
    direction, size = residual.clone(), dot(residual, residual)
    enough = tolerance**2 * dot(right, right)
    for _ in range(_MOST_STEPS):
        if bool((size <= enough).all()):
            break
        image = apply(direction)
        step = size / dot(direction, image).clamp(min=torch.finfo(images.dtype).tiny)
        step = torch.where(size > enough, step, 0)
        solution = solution + step * direction
        residual = residual - step * image
        new = dot(residual, residual)
        ratio = new / size.clamp(min=torch.finfo(images.dtype).tiny)
        direction = residual + ratio * direction
        size = new
    return solution


def neighbour_sum(
    values: Float[Tensor, "batch channel *spatial"],
) -> Float[Tensor, "batch channel *spatial"]:
    """Sum over the neighbours inside the image, weighted by one over the squared distance.

    Examples
    --------
    >>> neighbour_sum(torch.tensor([[[1.0, 2.0, 4.0]]])).tolist()
    [[[2.0, 5.0, 2.0]]]
    """
    parts = [values]  # by the number of axes along which the neighbour is off: its distance squared
    for axis in range(2, values.ndim):
        beside = [_beside(part, axis) for part in parts]
        parts = [
            *(part + beside[k - 1] if k else part for k, part in enumerate(parts)),
            beside[-1],
        ]
    return torch.stack([part / k for k, part in enumerate(parts) if k]).sum(dim=0)


def _beside(values: Tensor, axis: int) -> Tensor:
    """Sum of the two neighbours along one axis."""
    edge = values.shape[axis]
    found = torch.zeros_like(values)
    found.narrow(axis, 1, edge - 1).add_(values.narrow(axis, 0, edge - 1))
    found.narrow(axis, 0, edge - 1).add_(values.narrow(axis, 1, edge - 1))
    return found


def _guess(images: Tensor, gone: Tensor) -> Tensor:
    """Missing voxels from means over ever larger blocks: close to the solution, and cheap."""
    known = 1 - gone
    if min(images.shape[2:]) < 2 or bool((known > 0).all()):
        total = known.flatten(2).sum(dim=2).clamp(min=1)
        mean = (images * known).flatten(2).sum(dim=2) / total
        return torch.where(known > 0, images, mean.view(*mean.shape, *[1] * (images.ndim - 2)))
    rank = images.ndim - 2
    pool = getattr(torch.nn.functional, f"avg_pool{rank}d")
    weight = pool(known, 2, ceil_mode=True)
    coarse = pool(images * known, 2, ceil_mode=True) / weight.clamp(min=1e-12)
    coarse = _guess(coarse, (weight == 0).to(images.dtype))
    mode = ("linear", "bilinear", "trilinear")[rank - 1]
    fine = torch.nn.functional.interpolate(
        coarse, size=images.shape[2:], mode=mode, align_corners=False
    )
    return torch.where(known > 0, images, fine)
