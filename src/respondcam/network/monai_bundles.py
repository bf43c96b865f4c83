"""MONAI bundles: ``monai:BUNDLE_DIR``.

A bundle holds ``configs/inference.json`` (or ``.yaml``, or ``train``), ``configs/metadata.json``
and ``models/model.pt`` (or ``model.ts``). The configuration is a program: ``_target_`` names any
class or function of any package, ``$...`` is a Python expression, and both run when the network is
built. So a bundle opens only with ``trust``. Of the configuration only the entries for the network,
the preprocessing and the inferer are evaluated, with what they refer to; ``bundle_root`` is the
folder, and ``device`` the CPU.
"""

import contextlib
import io
import json
import sys
import warnings
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from torch import nn

from respondcam._extras import require
from respondcam._files import read_json
from respondcam._kinds import is_mapping
from respondcam._words import clipped
from respondcam.errors import InputError, ModelError
from respondcam.network.options import as_options
from respondcam.network.typed import load_program
from respondcam.network.weights import LoadedWeights, copy_weights, file_sha256, load_weights

_CONFIGS = tuple(
    f"{name}.{end}" for name in ("inference", "train") for end in ("json", "yaml", "yml")
)
_NETWORK = ("network_def", "network", "net")
_PREPROCESSING = ("preprocessing", "validate#preprocessing")
_INFERER = ("inferer", "validate#inferer")
_NUMBERS, _SPARSE = 10_000, 16  # the largest class number, and times as many as there are names
_DIGITS = 9  # of a number in metadata that is looked at
_LAYOUT = (
    "A MONAI bundle is a folder with configs/inference.json (or .yaml), configs/metadata.json and "
    "models/model.pt."
)


@dataclass(frozen=True)
class BundleOptions:
    """What can be chosen, as ``--model-arg NAME=VALUE``.

    Parameters
    ----------
    config
        Name of the configuration in ``configs``; ``inference``, or else ``train``.
    network
        The entry that defines the network; ``network_def``, or else ``network``.
    preprocess
        Whether volumes are prepared, and seen in windows, as the bundle says.
    """

    config: Any = None
    network: Any = None
    preprocess: Any = True

    def __post_init__(self) -> None:
        for name in ("config", "network"):
            if not isinstance(getattr(self, name), str | None):
                raise InputError(f"{name} is {getattr(self, name)!r}. Accepted: a name.")
        if not isinstance(self.preprocess, bool):
            raise InputError(f"preprocess is {self.preprocess!r}. Accepted: true, false.")


def load_bundle(
    folder: Path, *, weights: Path | None, arguments: Mapping[str, Any], trust: bool
) -> dict[str, Any]:
    """Give the fields of a `respondcam.network.sources.LoadedModel`.

    Raises
    ------
    InputError
        If an argument is none of `BundleOptions`, a file is missing or damaged, the folder is not
        trusted, or the network cannot be built.
    """
    options = as_options(BundleOptions, arguments, "MONAI bundles")
    file = _config_file(folder, options)
    if not trust:
        raise ModelError(
            f"{str(folder)!r} is a MONAI bundle: its configuration {file.name} names the functions "
            f"to call (_target_) and holds Python expressions ($...), so building its network can "
            f"run any code. If you know who made this bundle and trust them, allow it with "
            f"--trust (trust=True)."
        )
    metadata = _metadata(folder)
    class_names = _class_names(metadata, folder)
    require("monai.bundle", extra="monai", purpose="open MONAI bundles")
    with evaluating(folder, file):
        bundle = _Bundle(folder, file)
        network = bundle.network(options)
        parts = (bundle.first(_PREPROCESSING), bundle.first(_INFERER))
        sigmoid = bundle.has_sigmoid()
    read = _weights(network, folder, weights, trust=trust)
    from respondcam.network.monai_preparation import BundlePreparation

    preparation = BundlePreparation(*parts, channels=_channels(metadata), where=str(folder))
    return {
        "module": network.eval(),
        "class_names": class_names,
        "overlapping": sigmoid and _format(metadata, "outputs").get("num_channels") != 1,
        "weights": read,
        "preparation": preparation if options.preprocess else None,
    }


class _Bundle:
    """The configuration of a bundle, of which entries are evaluated one by one."""

    def __init__(self, folder: Path, file: Path) -> None:
        from monai.bundle.config_parser import ConfigParser

        self.parser: Any = ConfigParser()
        self.parser.read_config(_named(cast("Any", ConfigParser).load_config_file(str(file)), file))
        if (folder / "configs" / "metadata.json").is_file():
            self.parser.read_meta(str(folder / "configs" / "metadata.json"))
        self.parser["bundle_root"] = str(folder)
        if "device" in self.parser:
            self.parser["device"] = "$torch.device('cpu')"
        self.folder, self.file = folder, file

    def network(self, options: BundleOptions) -> nn.Module:
        wanted = (options.network,) if options.network else _NETWORK
        network = self.first(wanted)
        if isinstance(network, nn.Module):
            return network
        there = any(name in self.parser for name in wanted)
        what = "builds no torch.nn.Module in" if there else "has no entry"
        entries = clipped(", ".join(str(name) for name in self._entries()) or "nothing", 500)
        raise ModelError(
            f"{str(self.file)!r} {what} {' or '.join(wanted)}. It holds {entries}: name the "
            f"network's entry with --model-arg network=NAME."
        )

    def has_sigmoid(self) -> bool:
        """Whether the scores go through a sigmoid: then classes may overlap."""
        found = [self._entries().get(name) for name in ("postprocessing", "validate")]
        text = json.dumps(found, default=str)
        return '"sigmoid": true' in text and '"softmax": true' not in text

    def _entries(self) -> Mapping[str, Any]:
        entries: Any = self.parser.config
        return entries if is_mapping(entries) else {}

    def first(self, names: tuple[str, ...]) -> Any:
        """Evaluate the first of these entries that there is; None if there is none."""
        for name in names:
            if name in self.parser:
                return self.parser.get_parsed_content(name)
        return None


@contextlib.contextmanager
def evaluating(folder: Path, file: Path) -> Generator[None, None, None]:
    """Let the bundle's own modules be imported, keep it quiet, and word what goes wrong."""
    sys.path.insert(0, str(folder.resolve()))
    try:
        with (
            warnings.catch_warnings(),
            contextlib.redirect_stdout(io.StringIO()),
            contextlib.redirect_stderr(io.StringIO()),
        ):
            warnings.simplefilter("ignore")
            yield
    except InputError:
        raise
    except Exception as error:
        cause = error.__cause__ or error
        text = " ".join(f"{error} {cause if cause is not error else ''}".split()).rstrip(".:")
        raise ModelError(
            f"The MONAI bundle's configuration {str(file)!r} cannot be evaluated "
            f"({type(cause).__name__}: {text[:300]}). It must run with the installed MONAI and "
            f"the packages that the bundle needs."
        ) from error
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(str(folder.resolve()))


def _config_file(folder: Path, options: BundleOptions) -> Path:
    if not folder.is_dir():
        what = "is a file, not a folder" if folder.exists() else "does not exist"
        raise ModelError(f"The MONAI bundle {str(folder)!r} {what}. {_LAYOUT}")
    configs = folder / "configs"
    wanted = [name for name in _CONFIGS if options.config in (None, name, name.split(".")[0])]
    if options.config is not None and not wanted:
        wanted = [options.config]
    for name in wanted:
        if (configs / name).is_file():
            return configs / name
    there = ", ".join(sorted(path.name for path in configs.glob("*.*")))
    inner = sorted(path.parent for path in folder.glob("*/configs"))
    hint = f" Did you mean monai:{inner[0]}?" if inner else ""
    raise ModelError(
        f"{str(folder)!r} has no {options.config or 'configs/inference.json'}"
        f"{f'; in configs there is {there}' if there else ''}.{hint} {_LAYOUT}"
    )


def _weights(network: nn.Module, folder: Path, given: Path | None, *, trust: bool) -> LoadedWeights:
    path = given or folder / "models" / "model.pt"
    if path.is_file() or given is not None:
        return load_weights(network, path, trust=trust)
    program = folder / "models" / "model.ts"
    if not program.is_file():
        raise ModelError(
            f"{str(folder)!r} has neither models/model.pt nor models/model.ts. Copy or download "
            f"its weights, or give them with --weights FILE."
        )
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            state = load_program(program).state_dict()
    except RuntimeError as error:
        raise ModelError(
            f"{str(program)!r} is no TorchScript program, damaged, or cut short. Copy it again."
        ) from error
    copy_weights(network, state, program)
    return LoadedWeights(program, file_sha256(program))


def _metadata(folder: Path) -> Mapping[str, Any]:
    path = folder / "configs" / "metadata.json"
    if not path.is_file():
        return {}
    try:
        found = read_json(path)
    except ValueError as error:
        raise ModelError(f"{str(path)!r} is no JSON: {error}. Copy it again.") from error
    return _named(found, path)


def _named(found: Any, path: Path) -> Mapping[str, Any]:
    """What was read from a file of a bundle, if it is names with what they stand for."""
    if is_mapping(found):
        return found
    kinds: dict[Any, str] = {list: "a list", str: "a text", type(None): "nothing (null)"}
    raise ModelError(
        f"{str(path)!r} holds {kinds.get(type(found), 'a number')}, where a bundle has names with "
        f"what they stand for, in braces. Copy it again."
    )


def _format(metadata: Mapping[str, Any], side: str) -> Mapping[str, Any]:
    """What is said about the first input or output."""
    described = metadata.get("network_data_format")
    entries = described.get(side) if is_mapping(described) else None
    values = list(entries.values()) if is_mapping(entries) else []
    return values[0] if values and is_mapping(values[0]) else {}


def _channels(metadata: Mapping[str, Any]) -> tuple[int, tuple[str, ...]] | None:
    """How many channels the network takes and what they are, where the bundle says so."""
    said = _format(metadata, "inputs")
    count = said.get("num_channels")
    names = said.get("channel_def")
    names = tuple(str(name) for name in names.values()) if is_mapping(names) else ()
    return (count, names) if isinstance(count, int) else None


def _class_names(metadata: Mapping[str, Any], folder: Path) -> tuple[str, ...]:
    said = _format(metadata, "outputs").get("channel_def")
    if not is_mapping(said) or not all(str(key).isdecimal() for key in said):
        return ()
    most = min(_NUMBERS, _SPARSE * len(said))
    for key in said:
        if len(str(key)) > _DIGITS or int(key) > most:
            raise ModelError(
                f"{str(folder / 'configs' / 'metadata.json')!r} names the output channel "
                f"{str(key)[:40]} in channel_def, beside {len(said) - 1} others. Accepted: numbers "
                f"of channels from 0 to {_NUMBERS}, at most {_SPARSE} times as many as are named."
            )
    numbered = {int(key): str(name) for key, name in said.items()}
    return tuple(numbered.get(k, f"class {k}") for k in range(max(numbered, default=-1) + 1))
