"""Whether a layer sees the samples of a batch in the order in which they were given.

A network may sort its batch by length, or shuffle it, and put its output back in order; the rows of
a layer in between then belong to other samples. Samples run alone tell which row is theirs.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from respondcam.attribution.run import Run
from respondcam.errors import InputError, LayerError, is_out_of_memory
from respondcam.network.layers import Layer
from respondcam.network.layout import to_grid
from respondcam.network.layout.memory import recall, remember
from respondcam.network.split import run_watched
from respondcam.network.trees import image_tensor, map_tensors, signature, spatial_batch

_SAME, _OTHER = 1e-2, 1e-1  # distances of rows, in shares of their size
_NUMBERS = 4096  # of a row that are compared


def check_order(run: Run, layers: Sequence[Layer]) -> None:
    """Refuse layers that see the first or the last sample of a batch in another row.

    It takes three passes without a gradient, once for all layers and each kind of inputs.

    Raises
    ------
    LayerError
        If a row belongs to another sample, so that maps would.
    """
    batch = spatial_batch(run.inputs)
    model, key = run.setting.model, ("samples in order", signature(run.inputs))
    news = [layer for layer in layers if not (layer.is_input or recall(model, key, [layer.module]))]
    if batch < 2 or not news:
        return
    whole = _rows(run, news, slice(0, batch))
    for sample in (0, batch - 1):
        alone = _rows(run, news, slice(sample, sample + 1))
        for name in whole.keys() & alone.keys():
            if _elsewhere(whole[name], alone[name], sample, run):
                raise LayerError(
                    f"Layer {name!r} has sample {sample} of the batch in another row, since the "
                    f"network changes the order of its samples. Explain them one at a time."
                )
    for layer in news:
        remember(model, key, [layer.module], True)


def _rows(run: Run, layers: Sequence[Layer], samples: slice) -> Mapping[str, Tensor]:
    """By layer, its last output for some of the samples, (sample, numbers), where it has a grid."""
    batch = spatial_batch(run.inputs)
    found: dict[str, Tensor] = {}

    def watch(name: str, activation: Tensor) -> None:
        axes = run.traces[name].calls[-1].axes
        if axes is None:
            return
        try:
            rows = to_grid(activation, axes).flatten(1)
        except RuntimeError:  # folded into the batch in another way
            return
        found[name] = rows[:, :: max(1, rows.shape[1] // _NUMBERS)].double()

    inputs = map_tensors(lambda t: t[samples] if t.ndim and len(t) == batch else t, run.inputs)
    try:
        run_watched(run.setting.model, {one.name: one.module for one in layers}, inputs, watch)
    except InputError as error:  # made for one size of batch
        if is_out_of_memory(error):
            raise
        return {}
    return found


def _elsewhere(whole: Tensor, alone: Tensor, sample: int, run: Run) -> bool:
    """Whether a sample's own row is far from what it is alone, and another sample's row is that."""
    image = image_tensor(run.inputs)
    if alone.shape[1:] != whole.shape[1:] or len(alone) != 1 or image is None:
        return False
    if len(whole) != len(image):
        return False
    size = torch.maximum(_length(whole), _length(alone)).clamp_min(1e-30)
    distances = _length(whole - alone) / size
    if not bool(distances[sample] > _OTHER):
        return False
    # of equal samples each may have drawn what another has drawn
    return any(
        bool(distance < _SAME) and not torch.equal(other, image[sample])
        for distance, other in zip(distances, image, strict=True)
    )


def _length(rows: Tensor) -> Tensor:
    return rows.square().sum(dim=1).sqrt()
