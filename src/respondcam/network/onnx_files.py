"""ONNX files as PyTorch networks, through onnx2torch.

Each node of the file becomes a layer under its own name, with slashes for dots and none in front
(``/layer4/layer4.1/conv2/Conv`` is ``layer4/layer4/1/conv2/Conv``). Files of newer operator sets
are first brought to the last one that onnx2torch knows, by onnx's own version converter.

Limits: what onnx2torch cannot translate is refused with the operators' names, and what it would
translate into something else with the node's (onnx_meaning.py). Sizes that the file
fixes (often the batch) stay fixed.
"""

import warnings
from pathlib import Path
from typing import Any

from torch import nn

from respondcam._extras import require
from respondcam._files import expanded, why_no_file
from respondcam.errors import MissingExtraError, ModelError, RespondCAMWarning
from respondcam.network.onnx_meaning import check_meaning, check_versions, rewrite_unknown
from respondcam.network.onnx_sizes import check_sizes

_KNOWN_OPSET = 17  # the last one whose operators onnx2torch translates


def load_onnx(path: str | Path) -> nn.Module:
    """Read a network from an ONNX file, weights beside it included.

    Returns
    -------
    torch.nn.Module
        In evaluation mode; takes the file's inputs in their order.

    Raises
    ------
    ModelError
        If the file is missing or damaged, its external data is missing, or it has operators that
        cannot be translated, or not rightly.
    MissingExtraError
        If onnx, onnx2torch or what that needs are not installed.
    """
    file = expanded(path)
    if what := why_no_file(file):
        raise ModelError(f"The ONNX file {str(file)!r} {what}. Give a file: onnx:network.onnx.")
    onnx = require("onnx", extra="onnx", purpose="read ONNX files")
    converter = _converter()
    proto = _read(onnx, file)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            warnings.filterwarnings("error", message="(?s).*might differ")
            warnings.filterwarnings("ignore", module=r"onnx2torch\..*resize")  # check_meaning's
            check_versions(proto, file)
            proto = _supported(proto, file)
            check_sizes(proto, file)
            check_meaning(proto, file)
            network: nn.Module = converter.convert(proto)
    except ModelError:
        raise
    except Exception as error:  # whatever an operator's translation raises
        raise ModelError(
            f"The ONNX file {str(file)!r} cannot be turned into a PyTorch network: "
            f"{_first_line(error)}."
        ) from error
    _warn_of_softmax(proto, file)
    return network.eval()


def _converter() -> Any:
    try:
        return require("onnx2torch", extra="onnx", purpose="turn ONNX into PyTorch")
    except ModuleNotFoundError as error:  # it needs torchvision, and does not say so in time
        raise MissingExtraError(
            f"The package {error.name!r} is needed by onnx2torch to turn ONNX into PyTorch, and is "
            f"not installed. Install it with: pip install 'respondcam[onnx]'",
            name=error.name,
        ) from error


def _read(onnx: Any, path: Path) -> Any:
    try:
        proto = onnx.load(path)
    except FileNotFoundError as error:
        raise _missing_data(path, error) from error
    except Exception as error:
        if "external" in str(error).lower() or "should be stored in" in str(error):
            raise _missing_data(path, error) from error
        raise ModelError(
            f"The ONNX file {str(path)!r} cannot be read: {_first_line(error)}. It is damaged, "
            f"cut short or no ONNX file."
        ) from error
    if not proto.graph.node:
        raise ModelError(f"The ONNX file {str(path)!r} holds no network. Is it an ONNX file?")
    return proto


def _name_once(graph: Any) -> None:
    """Take out copies of weights: exporters write equal ones once, and copy them by Identity."""
    original = {weight.name: weight.name for weight in graph.initializer}
    outputs = {value.name for value in graph.output}
    kept: list[Any] = []
    for node in graph.node:
        if node.op_type == "Identity" and node.input and node.input[0] in original:
            original[node.output[0]] = original[node.input[0]]
            if node.output[0] not in outputs:
                continue
        kept.append(node)
        for place, name in enumerate(node.input):
            node.input[place] = original.get(name, name)
    del graph.node[:]
    graph.node.extend(kept)


def _missing_data(path: Path, error: BaseException) -> ModelError:
    return ModelError(
        f"The ONNX file {str(path)!r} keeps its weights in a file of their own, which cannot be "
        f"read: {_first_line(error)}. Put that file beside it, under the name it was written with."
    )


def _supported(proto: Any, path: Path) -> Any:
    """The network with operators that can be translated, or an error that names the others."""
    _name_once(proto.graph)
    rewrite_unknown(proto)
    if not _unknown_operators(proto):
        return proto
    from onnx import version_converter

    try:
        older = version_converter.convert_version(proto, _KNOWN_OPSET)
    except Exception:  # it has no way back for some operator: then that is what stands in the way
        older = proto
    if not _unknown_operators(older):
        return older
    newer = {one.version > _KNOWN_OPSET for one in proto.opset_import if not one.domain} == {True}
    helps = newer and older is proto  # else they would stand in the way of an older set as well
    again = f"with opset_version={_KNOWN_OPSET} or lower" if helps else "without them"
    raise ModelError(
        f"The ONNX file {str(path)!r} has operators that cannot be turned into PyTorch: "
        f"{', '.join(_unknown_operators(older))}. Export the network again {again}, or as "
        f"TorchScript, or give its Python code."
    )


def _unknown_operators(proto: Any) -> list[str]:
    from onnx2torch.node_converters import (  # pyright: ignore[reportMissingTypeStubs]
        get_converter,
    )

    versions = {one.domain: one.version for one in proto.opset_import}
    found: list[str] = []
    for node in proto.graph.node:
        domain = "" if node.domain == "ai.onnx" else node.domain
        version = versions.get(node.domain, versions.get(domain, 1))
        try:
            get_converter(operation_type=node.op_type, version=version, domain=domain)
        except NotImplementedError:
            name = f"{node.domain}.{node.op_type}" if domain else node.op_type
            found.append(f"{name} (operator set {version})")
    return list(dict.fromkeys(found))


def _warn_of_softmax(proto: Any, path: Path) -> None:
    outputs = {value.name for value in proto.graph.output}
    if any(node.op_type == "Softmax" and outputs & set(node.output) for node in proto.graph.node):
        warnings.warn(
            f"{path.name} ends in a softmax, so its scores are probabilities, whose gradient "
            f"fades where the network is sure; export it without for maps of the scores before it",
            RespondCAMWarning,
            stacklevel=3,
        )


def _first_line(error: BaseException) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (
        f"{type(error).__name__}: {lines[0][:300].rstrip('.')}" if lines else type(error).__name__
    )
