"""Figure 3 of the publication: three objects, their images, and the maps of both networks.

In each panel a surface above and a slice through the middle below; positive parts of the maps are
amber, negative ones blue. Zhao et al., MICCAI 2018 (arXiv:1806.00102).
"""

from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from torch import nn

from respondcam.attribution import Explainer, Explanation, GradCAM, RespondCAM
from respondcam.paper.cases import Case, choose_cases, make_cases, map_panel
from respondcam.paper.networks import NETWORKS, Laboratory, Setting
from respondcam.paper.strips import SHARE, Panel, draw_strips
from respondcam.paper.table1 import LAYER
from respondcam.show import save_figure
from respondcam.show.caption import Caption
from respondcam.volume import Volume

CASES = 3
_SMOOTH = 1.0  # voxels: else the surface of a noisy image is dust


def reproduce_figure3(laboratory: Laboratory, *, snr: float) -> Path:
    """Draw Figure 3; train the two networks if they are not there yet.

    Returns
    -------
    Path
        The figure, ``figure3-no-noise.png`` or ``figure3-snr-0.1.png``.
    """
    laboratory.claim()
    settings = {name: Setting(name, snr) for name in NETWORKS}
    networks = {name: laboratory.network(setting) for name, setting in settings.items()}
    cases = choose_cases(make_cases(laboratory, snr), list(networks.values()), CASES)
    rows = [(case.name, _panels(case, networks)) for case in cases]
    noise = settings["CNN-1"].snr_in_words
    page = draw_strips(
        rows,
        columns=6,
        caption=Caption(target=f"Grad-CAM and Respond-CAM of two networks, SNR {noise}"),
        notes=(
            (
                f"layer {LAYER}, true class. Above: the object in grey, and where the map has "
                f"{100 * SHARE:.0f} % of its strongest value. Below: the middle slice."
            ),
            "Amber raises the score, blue lowers it. Each map has its own scale.",
        ),
    )
    return save_figure(page, laboratory.folder / f"figure3-{settings['CNN-1'].name[6:]}.png")


def _panels(case: Case, networks: dict[str, nn.Module]) -> list[Panel]:
    panels = [
        Panel("object", (case.object, case.level), case.object),
        Panel("input", _surface_of(case.image), case.image),
    ]
    for name, network in networks.items():
        for title, method in (("Grad-CAM", GradCAM), ("Respond-CAM", RespondCAM)):
            explain: Explainer = method(network, layer=LAYER)
            explanation = explain(case.image, target=case.label)
            assert isinstance(explanation, Explanation)
            panels.append(map_panel(f"{title}, {name}", case, explanation))
    return panels


def _surface_of(image: Volume) -> tuple[Volume, float]:
    """The smoothed image, and `SHARE` of its strongest value."""
    smooth = gaussian_filter(np.asarray(image.voxels, np.float32), _SMOOTH)
    return Volume(smooth, image.affine, image.unit), SHARE * float(smooth.max())
