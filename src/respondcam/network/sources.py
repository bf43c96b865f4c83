"""Models by name: what stands behind ``--model``.

One table, `_RESOLVERS`, says how each kind of address becomes a network; a further source is one
more row. Addresses of Python code run that code, as ``python file.py`` would: that is what naming
a factory means. Files that would run code merely by being opened are another matter, see
`respondcam.network.weights`.
"""

import contextlib
import difflib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import ModuleType
from typing import Any

from torch import nn

from respondcam._files import expanded, why_no_file
from respondcam._kinds import is_tuple
from respondcam.errors import InputError, ModelError
from respondcam.network.model_files import SUFFIXES as MODEL_SUFFIXES
from respondcam.network.model_files import load_model_file
from respondcam.network.preparation import Preparation
from respondcam.network.weights import LoadedWeights, load_weights, named_classes

# addresses with a name of their own -> the factory behind them
BUILT_IN = {
    "demo": "respondcam.cryoet.demo:demo_network",
    "paper:cnn-1": "respondcam.network.paper:cnn_1",
    "paper:cnn-2": "respondcam.network.paper:cnn_2",
}

_ACCEPTED = (
    "a factory in a module (package.module:factory), a factory in a file "
    "(path/to/file.py:factory), a TorchScript file (.pt, .ts), a torch.export archive (.pt2), an "
    "ONNX file (onnx:FILE), a Keras file (keras:FILE), a trained nnU-Net folder "
    f"(nnunet:MODEL_DIR), a MONAI bundle (monai:BUNDLE_DIR), {', '.join(sorted(BUILT_IN))}"
)


@dataclass(frozen=True)
class LoadedModel:
    """A network that is ready to run, and how it came about.

    Parameters
    ----------
    module
        The network, in evaluation mode.
    spec
        The address it was loaded from.
    class_names
        Names of its classes in the order of its scores, or empty when nobody gave them.
    weights
        What was read from the weights file, or None.
    arguments
        What the factory was called with.
    preparation
        What happens to a volume before the network, or None where nobody knows; see
        `respondcam.attribution.prepared.explain_prepared`.
    others
        Further networks of the same architecture: the prediction is the mean of all (nnU-Net's
        folds).
    overlapping
        Whether its classes may overlap, each with a sigmoid of its own; see
        `respondcam.targets.overlapping`.
    typed_names
        Whether a user gave the names of the classes, so that a wrong number of them is a mistake.
    """

    module: nn.Module
    spec: str
    class_names: tuple[str, ...] = ()
    weights: LoadedWeights | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict[str, Any])
    preparation: Preparation | None = None
    others: tuple[nn.Module, ...] = ()
    overlapping: bool = False
    typed_names: bool = False

    def with_names(self, names: Sequence[str]) -> "LoadedModel":
        """The same network with the names that a user gave, if any."""
        return replace(self, class_names=tuple(names), typed_names=True) if names else self


def load_model(
    spec: str,
    *,
    weights: str | Path | None = None,
    trust: bool = False,
    arguments: Mapping[str, Any] | None = None,
) -> LoadedModel:
    """Load a network from its address, and its weights from a file.

    Parameters
    ----------
    spec
        ``package.module:factory`` or ``path/to/file.py:factory``, where the factory is a function
        or class that gives a network (or a pair of a network and its class names), or a network
        itself; a file that holds the network, see `respondcam.network.model_files`;
        ``onnx:FILE``, see `respondcam.network.onnx_files`; ``keras:FILE``, see
        `respondcam.network.keras_files`; ``nnunet:MODEL_DIR`` and ``monai:BUNDLE_DIR``, see
        `respondcam.network.nnunet_folders` and `respondcam.network.monai_bundles`, which come with
        their preparation; or one of the built-in ``demo``, ``paper:cnn-1`` and ``paper:cnn-2``.
    weights
        safetensors file or state dict, see `load_weights`. Names of classes that are written in
        it count where the factory gives none, and the networks of the publication are built for
        their number.
    trust
        Allow files that can run code when they are opened.
    arguments
        For the factory, by name.

    Raises
    ------
    ModelError
        If there is no network at this address or the weights do not fit it.

    Examples
    --------
    >>> loaded = load_model("torch.nn:Conv3d", arguments=dict(
    ...     in_channels=1, out_channels=4, kernel_size=3))
    >>> loaded.module
    Conv3d(1, 4, kernel_size=(3, 3, 3), stride=(1, 1, 1))
    """
    arguments = dict(arguments or {})
    for prefix, opener in _FOLDERS.items():
        if spec.startswith(prefix):
            return _from_folder(spec, prefix, opener, weights, arguments, trust=trust)
    names = () if weights is None else named_classes(weights)
    if names and spec in BUILT_IN and spec.startswith("paper:"):
        arguments.setdefault("classes", len(names))
    module, class_names = _resolver(spec)(spec, arguments, trust)
    with _code_of(spec) if trust else contextlib.nullcontext():
        read = None if weights is None else load_weights(module, weights, trust=trust)
    return LoadedModel(module.eval(), spec, class_names or names, read, arguments)


# prefix -> the module and function that open folders of a framework
_FOLDERS = {
    "nnunet:": "respondcam.network.nnunet_loading:load_nnunet",
    "monai:": "respondcam.network.monai_bundles:load_bundle",
}


def _from_folder(
    spec: str,
    prefix: str,
    opener: str,
    weights: str | Path | None,
    arguments: Mapping[str, Any],
    *,
    trust: bool,
) -> LoadedModel:
    """Open a folder that brings its own preprocessing; nothing of its framework before that."""
    module, name = opener.split(":")
    load = getattr(importlib.import_module(module), name)
    parts = load(
        expanded(spec.removeprefix(prefix)),
        weights=None if weights is None else expanded(weights),
        arguments=arguments,
        trust=trust,
    )
    return LoadedModel(spec=spec, arguments=arguments, **parts)


_Found = tuple[nn.Module, tuple[str, ...]]
_Resolver = Callable[[str, Mapping[str, Any], bool], _Found]  # the last is `trust`


def builds(spec: str) -> bool:
    """Whether an address names a factory, whose network may be untrained without weights.

    Examples
    --------
    >>> builds("nets.py:build"), builds("package.nets:build"), builds("onnx:net.onnx")
    (True, True, False)
    """
    if spec in BUILT_IN or spec.startswith(tuple(_FOLDERS)):
        return False
    return _resolver(spec) in (_from_file, _factory)


def _resolver(spec: str) -> _Resolver:
    for applies, resolve in _RESOLVERS:
        if applies(spec):
            return resolve
    raise _no_address(spec)


def _no_address(spec: str) -> ModelError:
    if folder := _nnunet_folder(spec):
        return ModelError(f"{spec!r} holds a trained nnU-Net. Did you mean nnunet:{folder}?")
    near = difflib.get_close_matches(spec, BUILT_IN, n=3, cutoff=0.6)
    hint = f"Did you mean {' or '.join(near)}? " if near else ""
    return ModelError(f"{spec!r} is no address of a model. {hint}Accepted: {_ACCEPTED}.")


def _nnunet_folder(spec: str) -> Path | None:
    """The trained nnU-Net at a path that was given without its prefix."""
    folder = expanded(spec)
    with contextlib.suppress(OSError, ValueError):  # a name that no file can have
        plans = [folder / "plans.json", *sorted(folder.glob("*/plans.json"))]
        return next((one.parent for one in plans if one.is_file()), None)
    return None


def _unknown(spec: str, arguments: Mapping[str, Any], trust: bool) -> _Found:
    raise _no_address(spec)


def _from_built_in(spec: str, arguments: Mapping[str, Any], trust: bool) -> _Found:
    return _from_module(BUILT_IN[spec], arguments, spec)


def _from_module(address: str, arguments: Mapping[str, Any], spec: str | None = None) -> _Found:
    name, factory = _split(address)
    # like `python -m`: modules of the current folder count, but never hide an installed one
    with _importable_from(Path.cwd(), first=False):
        module = _imported(lambda: importlib.import_module(name), name)
        return _built(module, factory, arguments, spec or address)


def _factory(spec: str, arguments: Mapping[str, Any], trust: bool) -> _Found:
    return _from_module(spec, arguments)


def _from_file(spec: str, arguments: Mapping[str, Any], trust: bool) -> _Found:
    name, factory = _split(spec)
    path = expanded(name)
    if what := why_no_file(path):
        raise ModelError(
            f"The model file {name!r} {what}. Give the path of a Python file and the name of a "
            f"factory in it: path/to/file.py:factory."
        )
    # like `python file.py`: its neighbours can be imported
    with _importable_from(path.resolve().parent, first=True):
        module = _imported(lambda: _executed(path), name)
        return _built(module, factory, arguments, spec)


def _from_keras(spec: str, arguments: Mapping[str, Any], trust: bool) -> _Found:
    _takes_none(spec, arguments)
    from respondcam.network.keras_files import load_keras  # reads nothing of Keras until called

    return load_keras(expanded(spec.removeprefix("keras:"))), ()


def _from_onnx(spec: str, arguments: Mapping[str, Any], trust: bool) -> _Found:
    _takes_none(spec, arguments)
    from respondcam.network.onnx_files import load_onnx

    return load_onnx(spec.removeprefix("onnx:")), ()


def _from_model_file(spec: str, arguments: Mapping[str, Any], trust: bool) -> _Found:
    _takes_none(spec, arguments)
    return load_model_file(spec, trust=trust), ()


def _takes_none(spec: str, arguments: Mapping[str, Any]) -> None:
    if arguments:
        raise ModelError(
            f"{spec!r} is a ready network and takes no arguments; got {', '.join(arguments)}."
        )


def _starts(*prefixes: str) -> Callable[[str], bool]:
    return lambda spec: spec.startswith(prefixes)


def _ends(*suffixes: str) -> Callable[[str], bool]:
    return lambda spec: spec.lower().endswith(suffixes)


# the first row that applies
_RESOLVERS: Sequence[tuple[Callable[[str], bool], _Resolver]] = (
    (lambda spec: spec in BUILT_IN, _from_built_in),
    (_starts("paper:", "demo:"), _unknown),
    (_starts("keras:"), _from_keras),
    (_starts("onnx:"), _from_onnx),
    (_ends(*MODEL_SUFFIXES), _from_model_file),
    (lambda spec: _split_at(spec)[0].endswith(".py"), _from_file),
    (
        lambda spec: all(part.isidentifier() for part in _split_at(spec)[0].split(".")),
        _factory,
    ),
)


def _split_at(spec: str) -> tuple[str, str]:
    """Split at the last colon; a spec without one has an empty factory, or is no address."""
    name, colon, factory = spec.rpartition(":")
    if colon and not spec.endswith(".py"):
        return name, factory
    return (spec, "") if spec.endswith(".py") else ("", spec)


def _split(spec: str) -> tuple[str, str]:
    name, factory = _split_at(spec)
    if not factory.isidentifier():
        raise ModelError(
            f"{spec!r} does not name a factory. Give the name of a function, a class or a network "
            f"after a colon: {name}:factory."
        )
    return name, factory


def _code_of(spec: str) -> contextlib.AbstractContextManager[None]:
    """Where a model that was pickled as a whole finds its classes: beside the network's code."""
    if _resolver(spec) is _from_file:
        return _importable_from(expanded(_split(spec)[0]).resolve().parent, first=False)
    return _importable_from(Path.cwd(), first=False)


@contextlib.contextmanager
def _importable_from(folder: Path, *, first: bool) -> Generator[None, None, None]:
    entry = str(folder)
    sys.path.insert(0 if first else len(sys.path), entry)
    try:
        yield
    finally:
        with contextlib.suppress(ValueError):
            sys.path.remove(entry)


def _imported(load: Callable[[], ModuleType], name: str) -> ModuleType:
    try:
        return load()
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # SystemExit, and what its code made of its own
        raise ModelError(
            f"The model's code {name!r} cannot be imported: {_one_line(error)}. "
            f"It must import without an error in this Python ({sys.executable})."
        ) from error


def _executed(path: Path) -> ModuleType:
    # a name of its own, so that a file called torch.py hides nothing
    name = f"_respondcam_model_{path.stem}"
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses and pickles look their module up
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


def _built(module: ModuleType, name: str, arguments: Mapping[str, Any], spec: str) -> _Found:
    factory = _attribute(module, name, spec)
    if isinstance(factory, nn.Module):
        _takes_none(spec, arguments)
        return factory, ()
    if not callable(factory):
        raise ModelError(
            f"{spec!r} is of type {type(factory).__name__}. Give a function or a class that "
            f"returns a torch.nn.Module, or such a module itself."
        )
    _check_arguments(factory, arguments, spec)
    try:
        result = factory(**arguments)
    except (InputError, KeyboardInterrupt):
        raise
    except BaseException as error:
        raise ModelError(f"The factory {spec!r} failed: {_one_line(error)}.") from error
    return _network(result, spec)


def _attribute(module: ModuleType, name: str, spec: str) -> Any:
    if hasattr(module, name):
        return getattr(module, name)
    candidates = [n for n, v in vars(module).items() if not n.startswith("_") and _may_build(v)]
    near = difflib.get_close_matches(name, candidates, n=5, cutoff=0.5)
    own = [n for n in candidates if getattr(vars(module)[n], "__module__", "") == module.__name__]
    listed = near or own[:8] or candidates[:8]
    hint = f"It has {', '.join(listed)}." if listed else "It defines no function or class."
    raise ModelError(f"{spec!r}: there is no {name!r} in {spec.rpartition(':')[0]!r}. {hint}")


def _may_build(value: Any) -> bool:
    return isinstance(value, nn.Module) or inspect.isfunction(value) or inspect.isclass(value)


def _check_arguments(factory: Callable[..., Any], arguments: Mapping[str, Any], spec: str) -> None:
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return  # written in C: calling it tells
    free = any(p.kind is p.VAR_KEYWORD for p in parameters)
    named = {p.name: p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
    unknown = [name for name in arguments if name not in named and not free]
    if unknown:
        raise ModelError(
            f"{spec!r} takes no argument {', '.join(map(repr, unknown))}. "
            f"It takes {', '.join(named) or 'none'}."
        )
    missing = [n for n, p in named.items() if p.default is p.empty and n not in arguments]
    if missing:
        raise ModelError(
            f"{spec!r} needs a value for {', '.join(missing)}. On the command line: "
            f"{' '.join(f'--model-arg {name}=VALUE' for name in missing)}; or name a factory "
            f"that needs none."
        )


def _network(result: Any, spec: str) -> _Found:
    if isinstance(result, nn.Module):
        return result, ()
    if is_tuple(result) and len(result) == 2 and isinstance(result[0], nn.Module):
        return result[0], tuple(str(name) for name in result[1])
    raise ModelError(
        f"{spec!r} returned {_described(result)}. It must return a torch.nn.Module, or a pair of "
        f"a torch.nn.Module and its class names."
    )


def _described(result: Any) -> str:
    if result is None:
        return "None"
    if is_tuple(result):
        return f"a tuple of {', '.join(type(item).__name__ for item in result) or 'nothing'}"
    return f"an object of type {type(result).__name__}"


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split()).rstrip(".:")
    text = text if len(text) <= 300 else f"{text[:300]}..."
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
