"""Whether a layer sees the samples of a batch in the order in which they were given.

A network may sort its batch by length, or shuffle it, and put its output back in order; the rows of
a layer in between then belong to other samples. Samples run alone tell which row is theirs.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from respondcam.attribution.run import Run
from respondcam.errors import InputError, LayerError, is_out_of_memory
from respondcam.network.layers import Layer
from respondcam.network.layout import to_grid
from respondcam.network.layout.memory import recall, remember
from respondcam.network.split import run_head
from respondcam.network.trees import map_tensors, signature, spatial_batch

_SAME, _OTHER = 1e-2, 1e-1  # distances of rows, in shares of their size


def check_order(run: Run, layers: Sequence[Layer]) -> None:
    """Refuse layers that see the first or the last sample of a batch in another row.

    It takes three passes without a gradient, once for each layer and kind of inputs.

    Raises
    ------
    LayerError
        If a row belongs to another sample, so that maps would.
    """
    batch = spatial_batch(run.inputs)
    if batch < 2:
        return
    model, key = run.setting.model, ("samples in order", signature(run.inputs))
    for layer in layers:
        if layer.is_input or recall(model, key, [layer.module]):
            continue
        whole = _rows(run, layer, slice(0, batch))
        if whole is None or len(whole) != batch:
            continue
        for sample in (0, batch - 1):
            alone = _rows(run, layer, slice(sample, sample + 1))
            if alone is not None and _elsewhere(whole, alone, sample):
                raise LayerError(
                    f"Layer {layer.name!r} has sample {sample} of the batch in another row, since "
                    f"the network changes the order of its samples. Explain them one at a time."
                )
        remember(model, key, [layer.module], True)


def _rows(run: Run, layer: Layer, samples: slice) -> Tensor | None:
    """The layer's last output for some of the samples, (sample, numbers); None if it has none."""
    batch = spatial_batch(run.inputs)
    calls = run.traces[layer.name].calls
    seen: list[Tensor] = []

    def keep(activation: Tensor) -> Tensor:
        seen.append(activation.detach().clone())
        return activation

    inputs = map_tensors(lambda t: t[samples] if t.ndim and len(t) == batch else t, run.inputs)
    try:
        run_head(run.setting.model, (layer.name, layer.module), inputs, keep)
    except InputError as error:  # made for one size of batch
        if is_out_of_memory(error):
            raise
        return None
    axes = calls[-1].axes
    if axes is None or len(seen) != len(calls):
        return None
    try:
        return to_grid(seen[-1], axes).flatten(1).double()
    except RuntimeError:  # folded into the batch in another way
        return None


def _elsewhere(whole: Tensor, alone: Tensor, sample: int) -> bool:
    """Whether a sample's own row is far from what it is alone, and another row is that."""
    if alone.shape[1] != whole.shape[1] or len(alone) != 1:
        return False
    size = torch.maximum(_length(whole), _length(alone)).clamp_min(1e-30)
    distances = _length(whole - alone) / size
    return bool(distances[sample] > _OTHER) and bool(distances.min() < _SAME)


def _length(rows: Tensor) -> Tensor:
    return rows.square().sum(dim=1).sqrt()
