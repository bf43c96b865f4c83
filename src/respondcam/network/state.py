"""Leave a model, and the process around it, exactly as they were.

While a map is made the model is in evaluation mode and its parameters are constants; both are flags
on shared objects, so they are counted per model: the first pass that enters sets them, the last one
that leaves restores them, and threads that explain one model at the same time do not undo each
other's work.
"""

import contextlib
import random
import sys
import threading
import weakref
from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from respondcam.network.attributes import (
    KeptAttribute,
    keep_all,
    keep_written,
    restore_all,
    restore_written,
)
from respondcam.network.buffers import KeptBuffer, keep_buffers, restore_buffers
from respondcam.network.trees import modules_of, weights

_lock = threading.RLock()


@dataclass
class _Flags:
    passes: int = 0
    thorough: bool = False
    training: set[nn.Module] = field(default_factory=set[nn.Module])
    trainable: list[Tensor] = field(default_factory=list[Tensor])
    buffers: list[KeptBuffer] = field(default_factory=list[KeptBuffer])
    attributes: list[KeptAttribute] = field(default_factory=list[KeptAttribute])


_held: "weakref.WeakKeyDictionary[nn.Module, _Flags]" = weakref.WeakKeyDictionary()
# Whose attributes were all compared around a pass on data: without, and with a backward pass.
_forward_noted: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
_backward_noted: "weakref.WeakSet[nn.Module]" = weakref.WeakSet()
_eager_passes = 0
_eager_exit = contextlib.ExitStack()
_unfused_passes = 0
_fused_before = True


@contextlib.contextmanager
def undisturbed(
    model: nn.Module,
    *,
    constant_parameters: bool = True,
    real: bool = True,
    backward: bool = False,
) -> Generator[None, None, None]:
    """Run a block with `model` in evaluation mode and autograd off, and restore everything after.

    Restored whatever happens inside: every module's training flag, every parameter's
    ``requires_grad``, buffers and attributes that the network writes to, the grad mode, inference
    mode, and the state of the random number generators of PyTorch, NumPy and Python.

    Parameters
    ----------
    model
        The network. Training flags are set directly, one module at a time, so that a module's own
        ``train()`` is not called.
    constant_parameters
        Take the parameters as constants, so that no graph is kept for them. Not for differentiable
        maps.
    real
        Whether the block runs the network on data: only then does what it leaves alone tell
        anything.
    backward
        Whether the block has a backward pass, in which hooks of the network may write to it, such
        as a gradient they keep. A trace does not see that.
    """
    devices = {p.device for p in weights(model) if p.device.type == "cuda"}
    with (
        torch.inference_mode(False),
        torch.set_grad_enabled(False),
        torch.random.fork_rng(  # pyright: ignore[reportUnknownMemberType]
            devices=sorted(d.index or 0 for d in devices)
        ),
        _other_random_states(),
        _parametrizations(),
        _eager(),
        _unfused_attention(),
        _evaluation(model, constant_parameters, real, backward),
    ):
        yield


@contextlib.contextmanager
def _unfused_attention() -> Generator[None, None, None]:
    """Switch off torch's fused transformer layers.

    They do not run on tensors without data; where padding is masked they hand hooks nested tensors,
    which have no grid; and the layers' ordinary way is the one that has a gradient. The switch is
    one for the whole process, hence the count.
    """
    global _unfused_passes, _fused_before
    with _lock:
        if _unfused_passes == 0:
            _fused_before = torch.backends.mha.get_fastpath_enabled()
            torch.backends.mha.set_fastpath_enabled(False)
        _unfused_passes += 1
    try:
        yield
    finally:
        with _lock:
            _unfused_passes -= 1
            if _unfused_passes == 0:
                torch.backends.mha.set_fastpath_enabled(_fused_before)


@contextlib.contextmanager
def _other_random_states() -> Generator[None, None, None]:
    """Of Python and NumPy, which augmentations inside a network draw from."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002
    try:
        yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


@dataclass(frozen=True)
class RandomStates:
    """States of the random number generators of PyTorch, Python and NumPy.

    All passes of one explanation draw the same numbers, so that a network that keeps its dropout
    on differs between them only by what was changed.
    """

    cpu: Tensor
    gpus: tuple[Tensor, ...]
    python: Any
    numpy: Any

    @classmethod
    def now(cls) -> "RandomStates":
        """Those of this moment."""
        gpus = torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else []
        numpy = np.random.get_state()  # noqa: NPY002
        return cls(torch.get_rng_state(), tuple(gpus), random.getstate(), numpy)

    def left(self) -> bool:
        """Whether PyTorch or NumPy drew something since.

        Of Python's nothing is asked: checks of types draw from it, too, and its single numbers are
        the same for all copies of a batch.

        Examples
        --------
        >>> before = RandomStates.now()
        >>> before.left(), float(torch.rand(1)) < 2, before.left()
        (False, True, True)
        """
        now = RandomStates.now()
        pairs = zip((self.cpu, *self.gpus), (now.cpu, *now.gpus), strict=False)
        drawn = self.numpy[2] != now.numpy[2] or any(self.numpy[1] != now.numpy[1])
        return drawn or not all(torch.equal(one, other) for one, other in pairs)

    @contextlib.contextmanager
    def again(self) -> Generator[None, None, None]:
        """Run a block that draws what was drawn from these states, and restore those of before.

        Examples
        --------
        >>> before = RandomStates.now()
        >>> with before.again():
        ...     first = torch.rand(1)
        >>> bool(first == torch.rand(1))
        True
        """
        devices = list(range(len(self.gpus)))
        with (
            torch.random.fork_rng(  # pyright: ignore[reportUnknownMemberType]
                devices=devices
            ),
            _other_random_states(),
        ):
            torch.set_rng_state(self.cpu)
            for device, state in enumerate(self.gpus):
                torch.cuda.set_rng_state(state, device)
            random.setstate(self.python)
            np.random.set_state(self.numpy)  # noqa: NPY002
            yield


@contextlib.contextmanager
def _parametrizations() -> Generator[None, None, None]:
    """Inside ``parametrize.cached()``: no weight that was made from constants is kept for later."""
    cache = parametrize._cache  # pyright: ignore[reportPrivateUsage]
    before = dict(cache)
    try:
        yield
    finally:
        if len(cache) != len(before):
            cache.clear()
            cache.update(before)


@contextlib.contextmanager
def _evaluation(
    model: nn.Module, constant_parameters: bool, real: bool, backward: bool
) -> Generator[None, None, None]:
    noted = _backward_noted if backward else _forward_noted
    with _lock:
        flags = _held.setdefault(model, _Flags())
        modules = modules_of(model)
        if flags.passes == 0:
            flags.buffers = keep_buffers(modules)
            flags.thorough = real and model not in noted
            flags.attributes = (keep_all if flags.thorough else keep_written)(modules)
        flags.passes += 1
    try:
        with _lock:
            flags.training.update(m for m in modules if m.training)
            for module in flags.training:  # one may refuse to be switched
                module.training = False
            if constant_parameters:
                found = [p for p in weights(model) if p.requires_grad and p.is_leaf]
                flags.trainable += found
                for parameter in found:
                    parameter.requires_grad_(False)
        yield
    finally:
        # from the last to the first, each whatever became of the one before it
        with _lock, contextlib.ExitStack() as steps:
            flags.passes -= 1
            if flags.passes == 0:
                del _held[model]
                steps.callback(_give_back, modules, flags)
                steps.callback(_restore_attributes, modules, flags)
            # each pass of several begins with the same ones
            steps.callback(restore_buffers, flags.buffers, real=real)
            if flags.passes == 0 and flags.thorough:
                noted.add(model)
                _forward_noted.add(model)


def _restore_attributes(modules: list[nn.Module], flags: _Flags) -> None:
    if flags.thorough:
        restore_all(modules, flags.attributes)
    else:
        restore_written(flags.attributes)


def _give_back(modules: list[nn.Module], flags: _Flags) -> None:
    """Training flags, which a network may switch itself, and which parameters are trained."""
    for module in modules:
        if module.training != (module in flags.training):
            module.training = not module.training
    for parameter in flags.trainable:
        parameter.requires_grad_(True)


@contextlib.contextmanager
def _eager() -> Generator[None, None, None]:
    """Run compiled code eagerly, since hooks are skipped in a graph that was compiled before.

    Nothing compiled can exist before torch._dynamo was imported, and importing it takes seconds.
    The stance is one for the whole process, hence the count.
    """
    global _eager_passes
    if "torch._dynamo" not in sys.modules or not hasattr(torch.compiler, "set_stance"):
        yield  # PyTorch before 2.6 can only be asked to compile anew, when a pass does not fit
        return
    with _lock:
        if _eager_passes == 0:
            _eager_exit.enter_context(torch.compiler.set_stance("force_eager"))
        _eager_passes += 1
    try:
        yield
    finally:
        with _lock:
            _eager_passes -= 1
            if _eager_passes == 0:
                _eager_exit.close()
