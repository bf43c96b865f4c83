"""Class activation maps for 3-D networks whose sum follows the class score.

Nothing heavy is imported until it is used: ``import respondcam`` loads neither torch nor
matplotlib.
"""

import importlib
from typing import TYPE_CHECKING, Any

from respondcam._version import __version__

if TYPE_CHECKING:
    from respondcam.attribution import (
        METHODS,
        AblationCAM,
        ChannelContributions,
        EigenCAM,
        Explainer,
        Explanation,
        GradCAM,
        GradCAMPlusPlus,
        GuidedBackprop,
        HiResCAM,
        IntegratedGradients,
        IntegratedRespondCAM,
        LayerCAM,
        Occlusion,
        RefineCAM,
        RespondCAM,
        SaliencyTubes,
        ScoreAccount,
        ScoreCAM,
        activation_of,
        channel_contributions,
        explain,
        fuse,
        targets,
    )
    from respondcam.errors import InputError
    from respondcam.network.grid import LayerGrid
    from respondcam.network.inspection import LayerTable, inspect
    from respondcam.volume import Volume, read_volume, write_volume

__all__ = [
    "METHODS",
    "AblationCAM",
    "ChannelContributions",
    "EigenCAM",
    "Explainer",
    "Explanation",
    "GradCAM",
    "GradCAMPlusPlus",
    "GuidedBackprop",
    "HiResCAM",
    "InputError",
    "IntegratedGradients",
    "IntegratedRespondCAM",
    "LayerCAM",
    "LayerGrid",
    "LayerTable",
    "Occlusion",
    "RefineCAM",
    "RespondCAM",
    "SaliencyTubes",
    "ScoreAccount",
    "ScoreCAM",
    "Volume",
    "__version__",
    "activation_of",
    "channel_contributions",
    "explain",
    "fuse",
    "inspect",
    "read_volume",
    "targets",
    "write_volume",
]

# module -> the exported names that it defines
_HOMES = {
    "respondcam.attribution": (
        "METHODS AblationCAM ChannelContributions EigenCAM Explainer Explanation GradCAM "
        "GradCAMPlusPlus "
        "GuidedBackprop HiResCAM IntegratedGradients IntegratedRespondCAM LayerCAM Occlusion "
        "RefineCAM RespondCAM SaliencyTubes ScoreAccount ScoreCAM activation_of "
        "channel_contributions explain fuse targets"
    ),
    "respondcam.errors": "InputError",
    "respondcam.network.grid": "LayerGrid",
    "respondcam.network.inspection": "LayerTable inspect",
    "respondcam.volume": "Volume read_volume write_volume",
}
_HOME = {name: module for module, names in _HOMES.items() for name in names.split()}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module 'respondcam' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
