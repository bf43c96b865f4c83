"""Networks by hand, whose answer is known in voxels: placed maps point there."""

from pathlib import Path
from typing import Any

import pytest
import torch

from respondcam import RespondCAM
from respondcam.evidence.pointing import centroid_distance, centroids, peak_distance, peaks

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
SMALL = {
    "5 / 2, padded": 0.0,
    "5 / 2, 3 / 2, 3 / 1, padded": 0.0,
    "5 / 2, max-pooling 3 / 2, padded": 0.0,
    "7 / 4, 3 / 1, padded": 0.0,
    '3 / 2 twice, padded as "same"': 3.0,
    "5 / 1, 3 / 2, 5 / 2, not padded": 7.0,
    "4 / 2 twice, padded": 1.5,
    "5 / 1, average-pooling 2 / 2 twice": 1.5,
    "5 / 1, max-pooling 2 / 2 twice": 1.5,
}


@pytest.fixture
def planted(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    from planted import known

    return known


def explained(planted: Any, name: str, count: int, seed: int) -> Any:
    made = planted.KNOWN[name]
    images = planted.balls(count, made.size, made.stride + 2, torch.Generator().manual_seed(seed))
    model = made.make()
    explain = RespondCAM(model, str(len(model) - 4))
    each = zip(images.volumes, images.labels.tolist(), strict=True)
    return made, images, [explain(volume[None], label) for volume, label in each]


@pytest.mark.parametrize("name", SMALL)
def test_the_peak_is_right_to_half_a_stride_along_every_axis(planted: Any, name: str) -> None:
    made, images, found = explained(planted, name, 8, 2)
    for explanation, mask in zip(found, images.masks, strict=True):
        grid, shares = explanation.grid, explanation.place()[:, 0]
        assert (grid.stride, grid.offset) == ((made.stride,) * 3, (SMALL[name],) * 3)
        for heights in (shares, explanation.place("value")[:, 0]):
            away = centroids(peaks(heights, shares).double()) - centroids(mask[None].double())
            assert float(away.abs().max()) <= made.stride / 2


def test_resized_maps_are_off_by_what_padding_shifts(planted: Any) -> None:
    """Stride 8 from voxel 0: resizing is 3.5 voxels off along every axis, 6.1 in all."""
    _, images, found = explained(planted, "3 / 2 three times, padded", 24, 3)
    off: dict[str, list[float]] = {}
    for explanation, mask in zip(found, images.masks[:, None], strict=True):
        resized = torch.nn.functional.interpolate(
            explanation.maps, size=mask.shape[1:], mode="trilinear", align_corners=False
        )
        for way, maps in (("placed", explanation.place()), ("resized", resized)):
            for figure in (centroid_distance, peak_distance):
                name = f"{figure.__name__} {way}"
                off.setdefault(name, []).append(float(figure(maps[:, 0], mask)))
    mean = {name: sum(values) / len(values) for name, values in off.items()}
    assert mean["centroid_distance placed"] < 0.2
    assert mean["centroid_distance resized"] == pytest.approx(3.5 * 3**0.5, abs=0.1)
    assert mean["peak_distance resized"] > 1.5 * mean["peak_distance placed"]
