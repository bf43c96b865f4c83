"""Networks from files that hold the network itself: TorchScript, torch.export, whole pickles.

What a file is shows in its content, not in its name. TorchScript is opened by PyTorch's own
interpreter, which runs no Python, but could write files: a program that would needs `trust`.
Opening a torch.export archive evaluates expressions that it holds, and a pickle can run anything:
both need `trust`.
"""

import contextlib
import pickle
import sys
import warnings
from collections.abc import Generator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from respondcam._files import expanded, why_no_file
from respondcam._kinds import is_mapping
from respondcam.errors import ModelError
from respondcam.network.archives import check_pickles, for_torch, names_in, reaching_calls
from respondcam.network.torchscript import as_module
from respondcam.network.typed import load_program

SUFFIXES = (".pt", ".pth", ".ts", ".torchscript", ".pt2", ".ckpt")

_KINDS = "a TorchScript program, a torch.export archive (.pt2) or a whole model (torch.save(model))"


def load_model_file(path: str | Path, *, trust: bool = False) -> nn.Module:
    """Open a file that holds a network.

    Parameters
    ----------
    path
        A TorchScript program, scripted or traced; an archive of ``torch.export.save``; or a model
        pickled as a whole.
    trust
        Open files that can run code when they are opened: all but TorchScript, and TorchScript
        that uses operators on files.

    Returns
    -------
    torch.nn.Module
        Whose layers take hooks and have the names that they had in Python.

    Raises
    ------
    ModelError
        If the file is missing or damaged, holds something else, or needs `trust`.

    Examples
    --------
    >>> import tempfile
    >>> path = f"{tempfile.mkdtemp()}/model.pt"
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("ignore")  # torch's own, about TorchScript's age
    ...     torch.jit.trace(nn.Sequential(nn.ReLU()), torch.zeros(1)).save(path)
    >>> [name for name, _ in load_model_file(path).named_children()]
    ['0']
    """
    file = expanded(path)
    _check(file)
    kind = _kind(file)
    if kind == "TorchScript":
        return _program(file, trust=trust)
    if kind == "torch.export":
        return _exported(file, trust=trust)
    return _pickled(file, trust=trust)


def _check(path: Path) -> None:
    problem = why_no_file(path) or ("" if path.stat().st_size else "is empty (0 bytes)")
    if problem:
        raise ModelError(f"The model file {str(path)!r} {problem}. Give {_KINDS}.")


def _kind(path: Path) -> str:
    with path.open("rb") as file:
        head = file.read(16)
    if head.startswith(b"PK"):
        try:
            names = {part for name in names_in(path) for part in name.split("/")[-2:]}
        except ValueError as error:
            raise ModelError(
                f"The model file {str(path)!r} is damaged or cut short ({_telling(error)}). "
                f"Copy or download it again."
            ) from error
        if "constants.pkl" in names:
            return "TorchScript"
        if names & {"archive_format", "serialized_exported_program.json"}:
            return "torch.export"
        if "data.pkl" in names:
            return "pickle"
    elif head.startswith(b"\x80"):  # the mark of a pickle, protocol 2 and later
        return "pickle"
    if head[8:9] == b"{":
        raise ModelError(_weights_only(path))
    raise ModelError(f"The model file {str(path)!r} holds no network. Give {_KINDS}.")


def _weights_only(path: Path) -> str:
    return (
        f"{str(path)!r} holds weights without their network. Give the network as "
        f"--model package.module:factory or path/to/file.py:factory, and this file as --weights."
    )


def _program(path: Path, *, trust: bool) -> nn.Module:
    try:
        reaching = [] if trust else reaching_calls(path)
        if reaching:
            raise ModelError(
                f"The TorchScript program {str(path)!r} uses {', '.join(reaching)}: it could "
                f"write or read files of yours, already when it is opened. If you know who made "
                f"this file and trust them, allow it with --trust (trust=True)."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about TorchScript's age
            script = load_program(path)
    except ModelError:
        raise
    except Exception as error:  # a different one for every kind of damage
        raise ModelError(
            f"The TorchScript program {str(path)!r} cannot be opened: {_telling(error)}. It is "
            f"damaged, or needs operators of a package that must be imported first."
        ) from error
    return as_module(script)


def _telling(error: BaseException) -> str:
    """The line of a long message that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    unknown = [line for line in lines if line.startswith("Unknown")]
    line = (unknown or lines or ["no message"])[0].rstrip(".:")
    return f"{type(error).__name__}: {line[:200]}"


def _exported(path: Path, *, trust: bool) -> nn.Module:
    if not trust:
        raise ModelError(
            f"{str(path)!r} is a torch.export archive, and opening it evaluates expressions and "
            f"pickles that it holds, so it could run any code that somebody put into it. If you "
            f"know who made this file and trust them, allow it with --trust (trust=True). A "
            f"TorchScript program needs no trust."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            check_pickles(path)
            return torch.export.unflatten(torch.export.load(path))
    except Exception as error:
        raise ModelError(
            f"The torch.export archive {str(path)!r} cannot be opened: {_telling(error)}. It is "
            f"damaged, or was written by another version of PyTorch (this is {torch.__version__})."
        ) from error


def _pickled(path: Path, *, trust: bool) -> nn.Module:
    try:
        with warnings.catch_warnings():  # about pickles that it is going to refuse
            warnings.simplefilter("ignore")
            torch.load(for_torch(path), map_location="cpu", weights_only=True)
        raise ModelError(_weights_only(path))
    except pickle.UnpicklingError as error:
        if not trust:
            raise ModelError(
                f"{str(path)!r} is a pickle, and opening it could run any code that somebody put "
                f"into it. Safe ways to keep a network: its state dict, given as --weights beside "
                f"the --model that builds it, or TorchScript. If you know who made this file and "
                f"trust them, allow it with --trust (trust=True)."
            ) from error
    except ModelError:
        raise
    except Exception as error:
        raise _unreadable(path, error) from error
    return _module_in(_opened(path), path)


def _opened(path: Path) -> Any:
    try:
        with _current_folder():  # where a script that saved the model had its classes
            return torch.load(path, map_location="cpu", weights_only=False)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"The model file {str(path)!r} needs a class that cannot be imported: "
            f"{_telling(error)}. Run in the folder or environment that the model was saved in."
        ) from error
    except Exception as error:
        raise _unreadable(path, error) from error


@contextlib.contextmanager
def _current_folder() -> Generator[None, None, None]:
    entry = str(Path.cwd())
    sys.path.append(entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _module_in(content: Any, path: Path) -> nn.Module:
    if isinstance(content, nn.Module):
        return content
    if is_mapping(content):
        for value in content.values():
            if isinstance(value, nn.Module):
                return value
        raise ModelError(_weights_only(path))
    raise ModelError(
        f"The model file {str(path)!r} holds an object of type {type(content).__name__}, no "
        f"network. Give {_KINDS}."
    )


def _unreadable(path: Path, error: BaseException) -> ModelError:
    return ModelError(
        f"The model file {str(path)!r} cannot be read ({_telling(error)}). It is damaged, cut "
        f"short or needs packages that are not installed."
    )
