"""What stands in the place of voxels that are taken away.

No fill is right: each makes an image that the network has not seen, and part of a curve is the
network's surprise. So compare methods with one fill, and trust an order that several fills give.

- ``"zero"``: what padding is; for images of mean zero the least surprise.
- ``"mean"``: each channel's own mean.
- ``"blur"``: the image itself without its detail: keeps what is large, so a network that looks at
  large things finds them still there.
- ``"noise"``: noise with the image's own power spectrum, mean and deviation (its phases drawn at
  random): as rough as the image, without its objects. The choice for tomograms.

ROAD's imputation is in `respondcam.evidence.imputing`.
"""

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor

from respondcam.errors import InputError

FILLS = ("zero", "mean", "blur", "noise")
_BLUR = 0.1  # standard deviation of the blur, of the shortest edge


def fill_like(
    images: Float[Tensor, "batch channel *spatial"], fill: str = "mean", *, seed: int = 0
) -> Float[Tensor, "batch channel *spatial"]:
    """The image that shows where voxels are taken away.

    Parameters
    ----------
    images
        What is explained.
    fill
        One of `FILLS`.
    seed
        Of the noise.

    Raises
    ------
    InputError
        If the fill is unknown.

    Examples
    --------
    >>> fill_like(torch.tensor([[[1.0, 3.0]]])).tolist()
    [[[2.0, 2.0]]]
    """
    if fill == "zero":
        return torch.zeros_like(images)
    if fill == "mean":
        grid = tuple(range(2, images.ndim))
        return images.mean(dim=grid, keepdim=True).expand_as(images)
    if fill == "blur":
        return _blurred(images, _BLUR * min(images.shape[2:]))
    if fill == "noise":
        return _noise_like(images, seed)
    raise InputError(f"fill={fill!r} is unknown. Accepted: {', '.join(FILLS)}.")


def _blurred(images: Tensor, sigma_voxels: float) -> Tensor:
    """Gaussian blur, axis by axis, with the border voxels repeated outside."""
    radius = max(1, round(3 * sigma_voxels))
    ruler = torch.arange(-radius, radius + 1, dtype=torch.float64)
    kernel = torch.exp(-((ruler / sigma_voxels) ** 2) / 2)
    kernel = (kernel / kernel.sum()).to(images)[None, None]
    for axis in range(2, images.ndim):
        lines = images.movedim(axis, -1)
        shape = lines.shape
        flat = rearrange(lines, "... n -> (...) 1 n")
        flat = torch.nn.functional.pad(flat, (radius, radius), mode="replicate")
        flat = torch.nn.functional.conv1d(flat, kernel)
        images = flat.reshape(shape).movedim(-1, axis)
    return images


def _noise_like(images: Tensor, seed: int) -> Tensor:
    """Noise whose Fourier amplitudes are the image's own."""
    axes = tuple(range(2, images.ndim))
    generator = torch.Generator().manual_seed(seed)
    white = torch.randn(images.shape, generator=generator).to(images.device)
    phases = torch.fft.rfftn(white, dim=axes)
    amplitude = torch.fft.rfftn(images.float(), dim=axes).abs()
    # the mean keeps its sign; the phases of noise are those of a real image
    turned = amplitude * phases / phases.abs().clamp(min=torch.finfo(torch.float32).tiny)
    noise = torch.fft.irfftn(turned, s=images.shape[2:], dim=axes)
    mean = images.float().mean(dim=axes, keepdim=True)
    return (noise - noise.mean(dim=axes, keepdim=True) + mean).to(images.dtype)
