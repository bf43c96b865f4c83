"""Late import of packages that serve one task and sit behind an extra."""

import importlib
import importlib.util
from types import ModuleType

from respondcam.errors import MissingExtraError


def require(module: str, *, extra: str, purpose: str) -> ModuleType:
    """Import `module`, or say which extra brings it.

    Parameters
    ----------
    module
        Name of the module to import, for example ``"SimpleITK"``.
    extra
        The extra of this package that installs it, for example ``"imaging"``.
    purpose
        What it is needed for, in words that finish "... is needed to".

    Raises
    ------
    MissingExtraError
        If the module is not installed, or cannot be imported; the message holds the install
        command.

    Examples
    --------
    >>> require("json", extra="imaging", purpose="read JSON").__name__
    'json'
    """
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or error.name.split(".")[0] != module.split(".")[0]:
            raise  # the package is there, but something that it needs itself is not
        raise _missing(module, extra, purpose) from None
    except (ImportError, AttributeError, OSError, RuntimeError) as error:
        # such as "operator torchvision::nms does not exist", of builds that were mixed
        said = " ".join(str(error).split())
        message = (
            f"The package {module!r} is needed to {purpose}; it is installed, but cannot be "
            f"imported ({type(error).__name__}: {said[:200]}). Packages that do not fit together "
            f"are the usual cause, such as torch and torchvision from different indexes. Install "
            f"them again in one command: pip install --upgrade 'respondcam[{extra}]'"
        )
        raise MissingExtraError(message, name=module) from error


def check_installed(package: str, *, extra: str, purpose: str) -> None:
    """Say which extra brings a package that is not installed, without importing it.

    Parameters
    ----------
    package, extra, purpose
        As for `require`.

    Raises
    ------
    MissingExtraError
        If it is not installed.

    Examples
    --------
    >>> check_installed("json", extra="imaging", purpose="read JSON")
    """
    if importlib.util.find_spec(package) is None:
        raise _missing(package, extra, purpose)


def _missing(module: str, extra: str, purpose: str) -> MissingExtraError:
    message = (
        f"The package {module!r} is needed to {purpose} and is not installed. "
        f"Install it with: pip install 'respondcam[{extra}]'"
    )
    return MissingExtraError(message, name=module)
