"""The publication's appendix: Grad-CAM and Respond-CAM of VGG-16 on photographs.

Zhao et al., MICCAI 2018 (arXiv:1806.00102), supplement. The two-dimensional case of the same code.
"""

import urllib.error
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.cbook import get_sample_data
from PIL import Image, UnidentifiedImageError
from torch import Tensor, nn

from respondcam._files import make_folder
from respondcam.attribution import Explainer, Explanation, GradCAM, RespondCAM
from respondcam.errors import InputError
from respondcam.network.vgg import LAST_CONVOLUTION, VGG16, VGG16_URL, scale_random_weights
from respondcam.network.weights import load_weights
from respondcam.paper.networks import Tell, quiet
from respondcam.paper.photographs import draw_photograph
from respondcam.show import save_figure

SIZE = 224
SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".tif", ".tiff", ".webp")
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet, as VGG-16 was trained
_TRAINED, _RANDOM = "", "random weights: the maps say nothing about the photograph"


@dataclass(frozen=True)
class Photograph:
    """What came out for one image.

    Parameters
    ----------
    source, figure
        Files.
    label
        The predicted class of ImageNet, counted from 0.
    score
        Of this class.
    grad_sum, respond_sum
        Sums of the two maps.
    """

    source: Path
    figure: Path
    label: int
    score: float
    grad_sum: float
    respond_sum: float


def reproduce_natural_images(
    images: Sequence[Path],
    folder: Path,
    *,
    weights: Path | None = None,
    seed: int = 0,
    device: torch.device | str = "cpu",
    tell: Tell = quiet,
) -> list[Photograph]:
    """Draw both maps over each photograph, ``natural-images/NAME.png``.

    Parameters
    ----------
    images
        Files, or folders of them. None: the photograph that comes with matplotlib.
    folder
        Where the figures go.
    weights
        Of VGG-16, with torchvision's names. None: fetched from PyTorch's hub, or from its cache;
        where that cannot be reached, random weights, which the figures say.
    seed
        Of random weights.
    device
        Where the network runs.
    tell
        Told a line of text at a time.

    Raises
    ------
    InputError
        If a file is no image, or the weights do not fit.
    """
    files = list_images(images)
    pictures = [read_photograph(path) for path in files]
    network, note = load_vgg16(weights, seed=seed, tell=tell)
    network.to(device)
    place = make_folder(folder / "natural-images")
    names = _names(files)
    return [
        _explain(network, path, picture, place / f"{name}.png", note, device)
        for path, picture, name in zip(files, pictures, names, strict=True)
    ]


def list_images(given: Sequence[Path]) -> list[Path]:
    """Give the images in files and folders; without any, the one that comes with matplotlib."""
    if not given:
        return [Path(get_sample_data("grace_hopper.jpg", asfileobj=False))]
    files: list[Path] = []
    for path in given:
        if path.is_dir():
            inside = sorted(one for one in path.iterdir() if one.suffix.lower() in SUFFIXES)
            if not inside:
                raise InputError(f"The folder {str(path)!r} holds no image ({', '.join(SUFFIXES)})")
            files += inside
        elif path.is_file():
            files.append(path)
        else:
            raise InputError(f"There is no image or folder {str(path)!r}.")
    return files


def read_photograph(path: Path) -> Float[np.ndarray, "3 y x"]:
    """Read an image as VGG-16 was trained: shorter side 256, the middle 224 x 224, in 0 to 1."""
    try:
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError) as error:
        raise InputError(
            f"{str(path)!r} cannot be read as an image: {error}. Accepted: {', '.join(SUFFIXES)}."
        ) from error
    ratio = 256 / min(picture.size)
    picture = picture.resize(
        (max(SIZE, round(picture.width * ratio)), max(SIZE, round(picture.height * ratio))),
        Image.Resampling.BILINEAR,
    )
    left, top = (picture.width - SIZE) // 2, (picture.height - SIZE) // 2
    middle = picture.crop((left, top, left + SIZE, top + SIZE))
    return np.asarray(middle, np.float32).transpose(2, 0, 1) / 255


def load_vgg16(weights: Path | None, *, seed: int, tell: Tell = quiet) -> tuple[nn.Module, str]:
    """Give VGG-16, and what a reader of its maps must know."""
    network = VGG16()
    if weights is not None:
        load_weights(network, weights)
        return network, _TRAINED
    try:
        state = torch.hub.load_state_dict_from_url(VGG16_URL, map_location="cpu", progress=False)
    except (urllib.error.URLError, OSError) as error:
        reason = getattr(error, "reason", error)
        tell(
            f"VGG-16's weights cannot be fetched from {VGG16_URL} ({reason}): random weights are "
            f"used. Give a file with --weights."
        )
        scale_random_weights(network, seed=seed)
        return network, _RANDOM
    network.load_state_dict(state)
    return network, _TRAINED


def _explain(
    network: nn.Module,
    path: Path,
    picture: Float[np.ndarray, "3 y x"],
    target: Path,
    note: str,
    device: torch.device | str,
) -> Photograph:
    mean, std = (np.array(values, np.float32)[:, None, None] for values in (_MEAN, _STD))
    network.eval()
    batch = torch.tensor((picture - mean) / std, device=device)[None]
    with torch.inference_mode():
        label = int(network(batch)[0].argmax())
    grad, respond = (
        _one(method(network, layer=LAST_CONVOLUTION), batch, label)
        for method in (GradCAM, RespondCAM)
    )
    maps = {
        name: one.place("value")[0, 0].detach().double().cpu().numpy()
        for name, one in (("Grad-CAM", grad), ("Respond-CAM", respond))
    }
    sums = [float(one.maps[0, 0].double().sum()) for one in (grad, respond)]
    score = float(grad.scores[0, 0])
    headline = f"{path.name}: class {label} of ImageNet, score {score:.4g}"
    figure = draw_photograph(picture, maps, sums, headline=headline, alert=note)
    save_figure(figure, target)
    return Photograph(path, target, label, score, *sums)


def _one(explain: Explainer, batch: Tensor, label: int) -> Explanation:
    found = explain(batch, target=label)
    assert isinstance(found, Explanation)
    return found


def _names(files: Sequence[Path]) -> list[str]:
    """Names of the figures; files of one name in several folders are numbered."""
    names: list[str] = []
    for path in files:
        name, number = path.stem, 2
        while name in names:
            name, number = f"{path.stem}-{number}", number + 1
        names.append(name)
    return names
