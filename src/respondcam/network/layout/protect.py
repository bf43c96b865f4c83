"""Leave a model exactly as it was, also where its forward pass writes to itself."""

from collections.abc import Generator
from contextlib import contextmanager

from torch import Tensor, nn

from respondcam.network.attributes import keep_all, restore_all
from respondcam.network.buffers import has_numbers, write_back
from respondcam.network.state import undisturbed
from respondcam.network.trees import modules_of


@contextmanager
def untouched(model: nn.Module, *, real: bool) -> Generator[None, None, None]:
    """Run a block with the model in evaluation mode, and undo all that it does to the model.

    Besides what `undisturbed` restores, these are attributes (a pass without data would leave
    tensors without data in a model that caches something), what lists and dictionaries among them
    hold, and after a real pass (`real`) the values of buffers. Training flags and hooks are left
    alone, since they belong to others who may be at work in another thread.

    Examples
    --------
    >>> model = nn.Dropout()
    >>> with untouched(model, real=False):
    ...     model.training
    False
    >>> model.training
    True
    """
    modules = modules_of(model)
    attributes = keep_all(modules)
    kept = _kept_buffers(model) if real else []
    with undisturbed(model, real=real):
        try:
            yield
        finally:
            restore_all(modules, attributes)
            for buffer, value, version in kept:
                if buffer._version != version:
                    write_back(buffer, value)


def _kept_buffers(model: nn.Module) -> list[tuple[Tensor, Tensor, int]]:
    return [
        (buffer, buffer.detach().clone(), buffer._version)
        for buffer in model.buffers()
        if has_numbers(buffer)
    ]
