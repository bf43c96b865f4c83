"""Which modules a forward pass really calls."""

import contextlib
import threading
from collections.abc import Callable
from typing import Any

from torch import nn

from respondcam.network.typed import named_modules


def called_modules(model: nn.Module, run: Callable[[], Any]) -> list[str]:
    """Names of the submodules that `run`, a forward pass of `model`, calls; in order of first call.

    What `run` raises is swallowed: this serves error messages, and what was called until then is
    worth saying.
    """
    names: list[str] = []
    thread = threading.get_ident()

    def notice(name: str) -> Callable[..., None]:
        def hook(*_: Any) -> None:
            if threading.get_ident() == thread and name not in names:
                names.append(name)

        return hook

    with contextlib.ExitStack() as stack:
        for name, module in named_modules(model).items():
            if name:
                stack.callback(module.register_forward_pre_hook(notice(name)).remove)
        with contextlib.suppress(Exception):
            run()
    return names
