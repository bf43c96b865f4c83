"""A map needs the memory of an inference on the GPU, too, and what does not fit is said."""

import gc

import pytest
import torch
from torch import nn

import respondcam as rc


def deep(width: int = 16) -> nn.Sequential:
    torch.manual_seed(0)
    layers: list[nn.Module] = [nn.Conv3d(1, width, 3, padding=1), nn.ReLU()]
    for _ in range(6):
        layers += [nn.Conv3d(width, width, 3, padding=1), nn.BatchNorm3d(width), nn.ReLU()]
    layers += [nn.Conv3d(width, width, 3, stride=4, padding=1), nn.ReLU()]
    layers += [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(width, 5)]
    return nn.Sequential(*layers).eval().cuda()


def peak(work: object) -> int:
    gc.collect()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    work()  # type: ignore[operator]
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def test_a_map_peaks_where_an_inference_peaks() -> None:
    model, x = deep(), torch.randn(1, 1, 96, 96, 96, device="cuda")
    explainer = rc.RespondCAM(model, "21")

    def inference() -> None:
        with torch.inference_mode():
            model(x)

    def explained() -> None:
        explainer(x, target="all")

    for work in (inference, explained):
        work()
    plain, mapped = peak(inference), peak(explained)
    assert mapped <= 1.05 * plain


def test_nothing_is_kept_from_call_to_call() -> None:
    model, x = deep(), torch.randn(1, 1, 48, 48, 48, device="cuda")
    explainer = rc.RespondCAM(model, "21")
    explainer(x, target="all")
    gc.collect()
    before = torch.cuda.memory_allocated()
    for _ in range(5):
        explainer(x, target="all")
    gc.collect()
    assert torch.cuda.memory_allocated() == before


def test_too_little_memory_is_what_it_says() -> None:
    model = deep()
    total = torch.cuda.get_device_properties(0).total_memory
    held = torch.cuda.memory_reserved()
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((held + 2**30) / total)
    try:
        with pytest.raises(torch.OutOfMemoryError):
            rc.RespondCAM(model, "21")(torch.zeros(1, 1, 400, 400, 400, device="cuda"), target=0)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
        gc.collect()
        torch.cuda.empty_cache()
    found = rc.RespondCAM(model, "21")(torch.randn(1, 1, 48, 48, 48, device="cuda"), target=0)
    assert torch.isfinite(found.maps).all()
