"""From the address of a trained nnU-Net folder to its networks and their preparation."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from respondcam.errors import ModelError
from respondcam.network.nnunet_folders import NNUNetOptions, open_nnunet
from respondcam.network.nnunet_preparation import NNUNetPreparation
from respondcam.network.options import as_options


def load_nnunet(
    folder: Path, *, weights: Path | None, arguments: Mapping[str, Any], trust: bool
) -> dict[str, Any]:
    """Give the fields of a `respondcam.network.sources.LoadedModel`.

    Raises
    ------
    InputError
        If an argument is none of `NNUNetOptions`, or the folder cannot be opened.
    """
    options = as_options(NNUNetOptions, arguments, "nnU-Net folders")
    if weights is not None:
        raise ModelError(
            "A trained nnU-Net folder brings its own weights. Leave --weights out, and choose with "
            "--model-arg fold=0 or --model-arg checkpoint=checkpoint_best.pth."
        )
    opened = open_nnunet(folder, options, trust=trust)
    return {
        "module": opened.networks[0],
        "others": opened.networks[1:],
        "class_names": opened.class_names,
        "overlapping": opened.overlapping,
        "weights": opened.weights,
        "preparation": NNUNetPreparation(opened, options) if options.preprocess else None,
    }
