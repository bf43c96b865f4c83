"""Errors that a user can mend, and the warnings that a map can carry.

Everything that a user may have got wrong derives from `InputError`. The command line turns each
of these into one message and exit code 2; whatever else is raised is a fault of the library.
"""


class InputError(ValueError):
    """A mistake in what was given: the message says what, where, what is accepted, and the fix."""


class VolumeError(InputError):
    """A file or array that is no usable volume."""


class ModelError(InputError):
    """A model or its weights that cannot be loaded or run as asked."""


class LayerError(InputError):
    """A layer that does not exist, is never called, or that the score does not depend on."""


class TargetError(InputError):
    """A target that the model's output does not have."""


class MissingExtraError(InputError, ImportError):
    """A package behind an extra is not installed; the message gives the install command."""

    def __init__(self, message: str, *, name: str | None = None) -> None:
        super().__init__(message)  # ValueError, the first base, takes no name
        self.name = name


class RespondCAMWarning(UserWarning):
    """Base of the library's own warnings."""


class PlacementWarning(RespondCAMWarning):
    """The map's place in the input is not known exactly."""


class EmptyMapWarning(RespondCAMWarning):
    """A map is zero everywhere; the message says why."""


def is_out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, of the processor or of a GPU.

    PyTorch says the first with a `RuntimeError` like any other.

    Examples
    --------
    >>> is_out_of_memory(RuntimeError("DefaultCPUAllocator: can't allocate memory"))
    True
    >>> is_out_of_memory(RuntimeError("shapes do not match"))
    False
    """
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    return isinstance(error, RuntimeError) and "DefaultCPUAllocator" in str(error)
