"""A score that is NaN because weights are: which ones, where an error would blame the input."""

from collections.abc import Callable, Iterator
from functools import wraps
from typing import Any, Concatenate, ParamSpec, TypeVar

from torch import nn

from respondcam.attribution.targets.basic import NOT_FINITE
from respondcam.errors import TargetError

_Given = ParamSpec("_Given")
_Owner = TypeVar("_Owner")
_Found = TypeVar("_Found")
_MOST = 3  # names that are told


def blaming_weights(
    call: Callable[Concatenate[_Owner, _Given], _Found],
) -> Callable[Concatenate[_Owner, _Given], _Found]:
    """Make a method of what has a `model` say if weights that are NaN made its score so.

    They are looked at when that has happened.
    """

    @wraps(call)
    def checked(owner: _Owner, *given: _Given.args, **options: _Given.kwargs) -> _Found:
        try:
            return call(owner, *given, **options)
        except TargetError as error:
            if not str(error).startswith(NOT_FINITE):
                raise
            model: Any = getattr(owner, "model", None)
            bad = list(_not_finite(model)) if isinstance(model, nn.Module) else []
            if not bad:
                raise
            more = f" and {len(bad) - _MOST} more" if len(bad) > _MOST else ""
            raise TargetError(
                f"{NOT_FINITE}, since weights of the model are: "
                f"{', '.join(bad[:_MOST])}{more}. No input can be explained with them: load or "
                f"train them anew."
            ) from error

    return checked


def _not_finite(model: nn.Module) -> Iterator[str]:
    """Names of parameters with values that are not finite, and of buffers that hold NaN.

    A buffer may hold infinities on purpose, such as the mask of an attention.
    """
    found = [(name, ~value.detach().isfinite()) for name, value in model.named_parameters()]
    found += [(name, v.isnan()) for name, v in model.named_buffers() if not v.is_sparse]
    for name, bad in found:
        if bool(bad.any()):
            yield f"{name} ({int(bad.sum())} of {bad.numel()})"
