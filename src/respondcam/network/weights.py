"""Weights from a file into a network: all of them, or none.

A checkpoint written by ``torch.save`` is a pickle, and a pickle can run any code when it is
opened. So everything is read with ``weights_only=True``, which builds tensors and plain
containers and refuses the rest; opening the rest takes an explicit ``trust``.
"""

import hashlib
import pickle
import struct
import warnings
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from respondcam._files import expanded, parse_json, why_no_file
from respondcam._kinds import is_mapping
from respondcam._words import clipped
from respondcam.errors import ModelError, RespondCAMWarning
from respondcam.network.archives import for_torch, is_archive, names_in
from respondcam.network.failures import refuse_without_values
from respondcam.network.unfolding import UnfoldingError

# names under which training frameworks keep the state dict (Lightning, plain torch, nnU-Net)
_NESTS = ("state_dict", "model_state_dict", "model", "network_weights")
# what wrappers put before each name (DataParallel, Lightning, torch.compile)
_PREFIXES = ("module.", "model.", "net.", "_orig_mod.")

_ACCEPTED = "Accepted: a safetensors file, or a state dict saved with torch.save"


@dataclass(frozen=True)
class LoadedWeights:
    """What was read from a weights file.

    Parameters
    ----------
    path
        The file.
    sha256
        Of the file's bytes, in hexadecimal.
    nest
        The entry of the checkpoint that held the weights, empty when they lay at the top.
    prefix
        What was removed from the beginning of each name so that the names fit, or empty.
    left_out
        Names of other parts in the file (a loss, a metric) that are no weights of the network.
    """

    path: Path
    sha256: str
    nest: str = ""
    prefix: str = ""
    left_out: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """What a user should know about how the weights were read; empty if there is nothing."""
        parts = [f"taken from the entry {self.nest!r}"] if self.nest else []
        parts += (
            [f"prefix {clipped(self.prefix)!r} removed from their names"] if self.prefix else []
        )
        if self.left_out:
            parts += [f"{len(self.left_out)} others left out ({_shortened(list(self.left_out))})"]
        return f"weights of {self.path.name}: {', '.join(parts)}" if parts else ""


def load_weights(model: nn.Module, path: str | Path, *, trust: bool = False) -> LoadedWeights:
    """Copy the weights in a file into a network; when they do not fit, nothing is changed.

    Parameters
    ----------
    model
        The network; its parameters and buffers are overwritten in place.
    path
        A safetensors file, or a state dict saved with ``torch.save``, also one inside a
        checkpoint (under ``state_dict``, ``model_state_dict``, ``model`` or ``network_weights``).
        Prefixes that wrappers leave (``module.``, ``model.``, ``net.``, ``_orig_mod.``) are
        removed only where the names fit after that. A checkpoint of a larger module, such as a
        Lightning module with its loss and metrics, may hold the network's weights under any one
        prefix; what else it holds is left out, and the note says so.
    trust
        Open files that can run code when they are opened.

    Raises
    ------
    ModelError
        If the file is missing, empty, damaged, no checkpoint, or needs `trust`; if names or
        shapes do not fit. The message lists what does not fit.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp(), "weights.pt")
    >>> torch.save({"state_dict": {"module.weight": torch.ones(1, 2)}}, path)
    >>> model = nn.Linear(2, 1, bias=False)
    >>> print(load_weights(model, path).note)
    weights of weights.pt: taken from the entry 'state_dict', prefix 'module.' removed ...
    >>> model.weight.tolist()
    [[1.0, 1.0]]
    """
    path = expanded(path)
    _check_file(path)
    refuse_without_values(model)
    state, nest = _state_dict(_read(path, trust=trust), path)
    names = list(state)
    state, prefix = _fitting_names(model, state)
    state, inner = _part_that_fits(model, state, path)
    prefix += inner
    _copy(model, _with_tied(model, state), path)
    left_out = tuple(name for name in names if inner and not name.startswith(prefix))
    return LoadedWeights(path, file_sha256(path), nest, prefix, left_out)


def named_classes(path: str | Path) -> tuple[str, ...]:
    """Names of the classes that ``respondcam train`` wrote into a safetensors file, or nothing.

    Examples
    --------
    >>> import tempfile
    >>> from safetensors.torch import save_file
    >>> path = f"{tempfile.mkdtemp()}/model.safetensors"
    >>> save_file({"weight": torch.ones(1)}, path, metadata={"classes": '["a", "b"]'})
    >>> named_classes(path)
    ('a', 'b')
    """
    path = expanded(path)
    if not path.is_file():  # `load_weights` says what is wrong with it
        return ()
    try:
        with cast("Any", safe_open)(path, framework="pt") as file:
            about: dict[str, str] = file.metadata() or {}
        text = about.get("classes", "[]")
    except (OSError, ValueError, SafetensorError):
        return ()
    names = _list_of_names(text)
    if names is None:
        warnings.warn(
            f"the entry 'classes' of {path.name} is no list of names in JSON, and is left out",
            RespondCAMWarning,
            stacklevel=2,
        )
    return names or ()


def _list_of_names(text: str) -> tuple[str, ...] | None:
    """Names out of JSON that anybody may have written; None where it holds anything else."""
    try:
        names = parse_json(text)
    except ValueError:
        return None
    if not isinstance(names, list):
        return None
    held = [str(name) for name in cast("list[Any]", names) if isinstance(name, str)]
    return tuple(held) if len(held) == len(cast("list[Any]", names)) else None


def state_sha256(model: nn.Module) -> str:
    """Digest of all parameters and buffers of a network: names, types, shapes and values.

    Two networks with the same digest give the same scores, whatever files they came from.

    Examples
    --------
    >>> a, b = nn.Linear(2, 1), nn.Linear(2, 1)
    >>> state_sha256(a) == state_sha256(b)
    False
    >>> _ = b.load_state_dict(a.state_dict())
    >>> state_sha256(a) == state_sha256(b)
    True
    """
    digest = hashlib.sha256()
    for name, value in sorted(model.state_dict().items()):
        if isinstance(value, Tensor):
            digest.update(f"{name} {value.dtype} {tuple(value.shape)}\n".encode())
            flat = value.detach().cpu().contiguous().reshape(-1)
            digest.update(flat.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_sha256(path: Path) -> str:
    """Digest of a file's bytes, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _check_file(path: Path) -> None:
    if what := why_no_file(path):
        raise ModelError(f"The weights file {str(path)!r} {what}. {_ACCEPTED}.")
    if path.stat().st_size == 0:
        raise ModelError(
            f"The weights file {str(path)!r} is empty (0 bytes). Copy or download it again."
        )


def _read(path: Path, *, trust: bool) -> Any:
    with path.open("rb") as file:
        head = file.read(16)
    if _is_safetensors(path, head):
        return _read_safetensors(path)
    if head.startswith(b"PK"):
        _check_archive(path)
    elif not head.startswith(b"\x80"):  # the mark of a pickle, protocol 2 and later
        raise ModelError(f"The weights file {str(path)!r} is no checkpoint. {_ACCEPTED}.")
    return _read_pickle(path, trust=trust)


def _is_safetensors(path: Path, head: bytes) -> bool:
    """Whether the file begins with the length of a JSON header and the header's brace."""
    return path.suffix == ".safetensors" or (len(head) > 8 and head[8:9] == b"{")


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    import safetensors
    import safetensors.torch

    try:
        return cast("Any", safetensors.torch).load_file(path)
    except (safetensors.SafetensorError, OSError, struct.error) as error:
        raise ModelError(
            f"The safetensors file {str(path)!r} is damaged or cut short: "
            f"{clipped(str(error), 300)}. "
            f"Copy or download it again."
        ) from error


def _check_archive(path: Path) -> None:
    """Refuse archives that torch would describe in words of its own."""
    if not is_archive(path):
        raise ModelError(
            f"The weights file {str(path)!r} is damaged or cut short: its archive has no end "
            f"that can be read. Copy or download it again."
        )
    try:
        names = {name.partition("/")[2] for name in names_in(path)}
    except ValueError as error:
        raise _damaged(path, error) from error
    if "constants.pkl" in names:
        raise ModelError(
            f"{str(path)!r} is a TorchScript program, not weights: give it as --model, without "
            f"--weights. {_ACCEPTED}."
        )
    if "data.pkl" not in names:
        raise ModelError(
            f"The weights file {str(path)!r} is an archive of another kind, no checkpoint. "
            f"{_ACCEPTED}."
        )


def _read_pickle(path: Path, *, trust: bool) -> Any:
    try:
        with warnings.catch_warnings():  # about pickles that it is going to refuse
            warnings.simplefilter("ignore")
            return torch.load(for_torch(path), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        if not trust:
            raise ModelError(
                f"{str(path)!r} holds more than weights, and opening it could run any code that "
                f"somebody put into it ({_refused_names(path, error)}). Save the state dict alone "
                f"(torch.save(model.state_dict(), path), or safetensors). If you know who made "
                f"this file and trust them, allow it with --trust (trust=True)."
            ) from error
    except Exception as error:
        raise _damaged(path, error) from error
    try:
        return _open_trusted(path)
    except (ImportError, AttributeError) as error:
        raise ModelError(
            f"The weights file {str(path)!r} needs a class that cannot be imported "
            f"({type(error).__name__}: {_first_line(error)}). Save the state dict alone "
            f"(torch.save(model.state_dict(), path)), or put the file that defines the class "
            f"beside that of --model."
        ) from error
    except Exception as error:
        raise _damaged(path, error) from error


def _open_trusted(path: Path) -> Any:
    with path.open("rb") as file:
        head = file.read(2)
    if head in (b"PK", b"\x80\x02"):  # torch.save, today's and the one before
        return torch.load(path, map_location="cpu", weights_only=False)
    with path.open("rb") as file:
        return pickle.load(file)


def _refused_names(path: Path, error: BaseException) -> str:
    """What in the pickle is refused: classes that are no tensors or plain containers, as a rule."""
    if isinstance(error, UnfoldingError):
        return str(error)
    try:
        names = torch.serialization.get_unsafe_globals_in_checkpoint(path)
    except Exception:  # a pickle of another kind
        names = []
    for line in [] if names else str(error).splitlines():
        for mark in ("Unsupported global: GLOBAL ", "Unsupported class "):
            if mark in line:
                names = [line.split(mark, 1)[1].split()[0].rstrip(".,")]
    return f"it names {_shortened(names, 3)}" if names else "it is a pickle of another kind"


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0]


def _damaged(path: Path, error: BaseException) -> ModelError:
    lines = str(error).strip().splitlines()
    reason = f"{type(error).__name__}: {clipped(lines[0], 300)}" if lines else type(error).__name__
    return ModelError(
        f"The weights file {str(path)!r} cannot be read ({reason}). It is damaged, cut short or "
        f"needs packages that are not installed."
    )


def _state_dict(content: Any, path: Path) -> tuple[dict[str, Any], str]:
    """Find the state dict in what a file held, and the entry it lay in."""
    state, nest = _found_state(content, path)
    odd = [name for name in state if not isinstance(name, str)]
    if odd:
        raise ModelError(
            f"The file {str(path)!r} holds weights under keys that are no names: "
            f"{_shortened([clipped(ascii(one), 40) for one in odd], 3)}. {_ACCEPTED}."
        )
    return state, nest


def _found_state(content: Any, path: Path) -> tuple[dict[Any, Any], str]:
    if isinstance(content, nn.Module):
        return dict(content.state_dict()), ""
    if is_mapping(content):
        for nest in _NESTS:
            inner = content.get(nest)
            if isinstance(inner, nn.Module):
                return dict(inner.state_dict()), nest
            if is_mapping(inner) and _holds_tensors(inner):
                return dict(inner), nest
        if _holds_tensors(content):
            return dict(content), ""
    held = (
        f"a mapping with the entries {_shortened([str(key) for key in content])}"
        if is_mapping(content)
        else f"an object of type {type(content).__name__}"
    )
    raise ModelError(
        f"The file {str(path)!r} holds no weights but {held}. {_ACCEPTED}, at the top or under "
        f"{', '.join(_NESTS)}."
    )


def _holds_tensors(content: Mapping[Any, Any]) -> bool:
    return any(isinstance(value, Tensor) for value in content.values())


def _fitting_names(model: nn.Module, state: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """Remove wrappers' prefixes where that makes the names fit; otherwise leave them alone."""
    wanted = set(model.state_dict())
    candidates = [(state, "")]
    while prefix := _common_prefix(candidates[-1][0]):
        names, removed = candidates[-1]
        shorter = {name.removeprefix(prefix): value for name, value in names.items()}
        candidates.append((shorter, removed + prefix))
    # the first of equals: the names as they are, unless fewer prefixes fit better
    return max(candidates, key=lambda candidate: len(wanted & set(candidate[0])))


def _part_that_fits(
    model: nn.Module, state: dict[str, Any], path: Path
) -> tuple[dict[str, Any], str]:
    """The network's weights out of those of a larger module, if they lie there under one prefix."""
    wanted = list(model.state_dict())
    if not wanted or any(name in state for name in wanted):
        return state, ""
    last = f".{wanted[0]}"
    prefixes = [name[: -len(last) + 1] for name in state if name.endswith(last)]
    whole = [p for p in prefixes if all(p + name in state for name in wanted)]
    usual = [p for p in whole if p in _PREFIXES]
    if len(whole) > 1 and len(usual) != 1:
        raise ModelError(
            f"The file {str(path)!r} holds weights for this network more than once, under "
            f"{_shortened([repr(clipped(one)) for one in whole])}. Save the ones that you mean "
            f"alone, without the prefix."
        )
    if not whole:
        return state, ""
    (prefix,) = usual if len(whole) > 1 else whole
    return {name: state[prefix + name] for name in wanted}, prefix


def _common_prefix(names: Collection[str]) -> str:
    return next((p for p in _PREFIXES if names and all(n.startswith(p) for n in names)), "")


def _with_tied(model: nn.Module, state: dict[str, Any]) -> dict[str, Any]:
    """Give tensors that the model shares under several names all their names.

    safetensors keeps each shared tensor once.
    """
    own = model.state_dict()
    place = {
        (value.data_ptr(), value.shape): name
        for name, value in own.items()
        if name in state and isinstance(value, Tensor) and value.numel()
    }
    tied = {
        name: state[place[value.data_ptr(), value.shape]]
        for name, value in own.items()
        if name not in state
        and isinstance(value, Tensor)
        and (value.data_ptr(), value.shape) in place
    }
    return state | tied


def _copy(model: nn.Module, state: dict[str, Any], path: Path) -> None:
    """Load strictly; torch copies what fits before it complains, so put that back then."""
    before = {
        name: value.detach().clone() if isinstance(value, Tensor) else value
        for name, value in model.state_dict().items()
    }
    try:
        _refuse_complex(before, state)
        model.load_state_dict(state, strict=True)
    except BaseException as error:
        model.load_state_dict(before, strict=False)
        if isinstance(error, RuntimeError | TypeError | AttributeError | KeyError | ValueError):
            raise ModelError(_misfit(before, state, path, error)) from error
        raise


def _refuse_complex(own: dict[str, Any], state: dict[str, Any]) -> None:
    """PyTorch would drop the imaginary part."""
    for name, value in own.items():
        if _shape(value) != _shape(given := state.get(name)) and "complex" in str(_shape(given)):
            raise ValueError(f"{name} is complex")


def _misfit(own: dict[str, Any], state: dict[str, Any], path: Path, error: BaseException) -> str:
    missing = [name for name in own if name not in state]
    unexpected = [name for name in state if name not in own]
    shapes = [
        f"{clipped(name)} is {_shape(state[name])} in the file and {_shape(own[name])} in the model"
        for name in own
        if name in state and _shape(state[name]) != _shape(own[name])
    ]
    parts = [f"missing in the file ({len(missing)}): {_shortened(missing)}"] if missing else []
    if unexpected:
        parts.append(f"not in the model ({len(unexpected)}): {_shortened(unexpected)}")
    if shapes:
        more = f" and {len(shapes) - 3} more" if len(shapes) > 3 else ""
        parts.append(f"other shapes ({len(shapes)}): {', '.join(shapes[:3])}{more}")
    how = "; ".join(parts) or clipped(str(error).splitlines()[0], 300)
    return (
        f"The weights in {str(path)!r} do not fit the model: {how}. Give the weights of this "
        f"model, or build it with the arguments that it was trained with. Nothing was changed."
    )


def _shape(value: Any) -> tuple[int, ...] | str:
    if not isinstance(value, Tensor):
        return type(value).__name__
    kinds = {
        "nested": value.is_nested,  # it has no shape
        "quantized": value.is_quantized,
        "complex": value.is_complex(),
        "sparse": value.is_sparse,
    }
    kind = next((kind for kind, found in kinds.items() if found), None)
    return f"a {kind} tensor" if kind else tuple(value.shape)


def _shortened(names: list[str], most: int = 5) -> str:
    more = len(names) - most
    return ", ".join(map(clipped, names[:most])) + (f" and {more} more" if more > 0 else "")


def read_checkpoint(path: Path, *, trust: bool = False) -> Any:
    """Give the content of a checkpoint, whatever it holds.

    Raises
    ------
    ModelError
        As `load_weights`.
    """
    _check_file(path)
    return _read(path, trust=trust)


def copy_weights(model: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Copy a state dict that was read from `path` into a network, as `load_weights` does.

    Raises
    ------
    ModelError
        If names or shapes do not fit; nothing is changed then.
    """
    fitting, _ = _fitting_names(model, dict(state))
    _copy(model, _with_tied(model, fitting), path)
