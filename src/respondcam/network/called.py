"""Which modules a forward pass really calls."""

import contextlib
from collections.abc import Callable
from typing import Any

from torch import nn

from respondcam.network.hooks import hook_before
from respondcam.network.typed import named_modules


def called_modules(model: nn.Module, run: Callable[[], Any]) -> list[str]:
    """Names of the submodules that `run`, a forward pass of `model`, calls; in order of first call.

    What `run` raises is swallowed: this serves error messages, and what was called until then is
    worth saying.
    """
    names: list[str] = []

    def notice(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if name not in names:
                names.append(name)

        return hook

    with contextlib.ExitStack() as stack:
        for name, module in named_modules(model).items():
            if name:
                hook_before(stack, module, notice(name))
        with contextlib.suppress(Exception):
            run()
    return names
