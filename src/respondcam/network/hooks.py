"""Hooks that concern one thread: others may explain or run the same network at the same time."""

import contextlib
import threading
import weakref
from collections.abc import Callable
from typing import Any

from torch import nn

# PyTorch numbers hooks without a lock: two that are registered at once get one number, and where
# they are on one layer the second takes the place of the first.
_lock = threading.Lock()
_ours: "weakref.WeakSet[Callable[..., Any]]" = weakref.WeakSet()


def hook_before(
    stack: contextlib.ExitStack, module: nn.Module, hook: Callable[[nn.Module, Any, Any], Any]
) -> None:
    """Call ``hook(module, args, kwargs)`` before each forward pass of `module` in this thread.

    It may return (args, kwargs) in place of those, and is removed when `stack` is closed.

    Examples
    --------
    >>> from torch import ones
    >>> with contextlib.ExitStack() as stack:
    ...     hook_before(stack, layer := nn.ReLU(), lambda module, args, kwargs: print(args, kwargs))
    ...     _ = layer(input=ones(2))
    () {'input': tensor([1., 1.])}
    >>> _ = layer(ones(2))
    """
    _register(stack, lambda: module.register_forward_pre_hook(_only_here(hook), with_kwargs=True))


def hook_after(
    stack: contextlib.ExitStack, module: nn.Module, hook: Callable[[nn.Module, Any, Any], Any]
) -> None:
    """Call ``hook(module, args, output)`` after each forward pass of `module` in this thread.

    It may return what takes the place of `output`, and is removed when `stack` is closed. It comes
    after hooks of others, so `output` is what the rest of the network is given.
    """
    _register(stack, lambda: module.register_forward_hook(_only_here(hook)))


def is_hooked(module: nn.Module) -> bool:
    """Whether others have hooks on a module, which may keep its output, as a skip connection.

    Examples
    --------
    >>> layer, kept = nn.ReLU(), []
    >>> with contextlib.ExitStack() as stack:
    ...     hook_after(stack, layer, lambda module, args, output: None)
    ...     before = is_hooked(layer)
    >>> _ = layer.register_forward_hook(lambda module, args, output: kept.append(output))
    >>> before, is_hooked(layer)
    (False, True)
    """
    hooks: dict[int, Any] = vars(module)["_forward_hooks"]
    return any(hook not in _ours for hook in list(hooks.values()))


def _register(stack: contextlib.ExitStack, register: Callable[[], Any]) -> None:
    with _lock:
        handle = register()

    def remove() -> None:
        with _lock:
            handle.remove()

    stack.callback(remove)


def _only_here(hook: Callable[[nn.Module, Any, Any], Any]) -> Callable[..., Any]:
    """A hook that changes nothing in other threads.

    PyTorch notes that a hook wants arguments by keyword only after it has put it in place, so that
    a thread that runs the layer in between calls it without them. None is the one answer that means
    the same either way.
    """
    mine = threading.get_ident()

    def only_here(*args: Any) -> Any:
        return hook(*args) if threading.get_ident() == mine else None

    _ours.add(only_here)
    return only_here
