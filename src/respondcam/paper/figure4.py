"""Figure 4 of the publication: Respond-CAM at every layer of CNN-1, from the input to the last.

Zhao et al., MICCAI 2018 (arXiv:1806.00102).
"""

from pathlib import Path

from respondcam.attribution import RespondCAM
from respondcam.paper.cases import choose_cases, make_cases, map_panel
from respondcam.paper.networks import Laboratory, Setting
from respondcam.paper.strips import SHARE, Panel, draw_strips
from respondcam.show import save_figure
from respondcam.show.caption import Caption

LAYERS = ("input", "conv1", "conv2", "maxpool1", "conv3", "conv4", "maxpool2")
_COLUMNS = 4


def reproduce_figure4(laboratory: Laboratory, *, snr: float) -> Path:
    """Draw Figure 4; train CNN-1 if it is not there yet.

    Returns
    -------
    Path
        The figure, ``figure4-no-noise.png`` or ``figure4-snr-0.1.png``.
    """
    laboratory.claim()
    setting = Setting("CNN-1", snr)
    network = laboratory.network(setting)
    case = choose_cases(make_cases(laboratory, snr), [network], 1)[0]
    explanations = RespondCAM(network, layer=list(LAYERS))(case.image, target=case.label)
    assert isinstance(explanations, tuple)
    panels = [Panel("object", (case.object, case.level), case.object)]
    panels += [
        map_panel(f"{name}, {_grid(one.grid.shape)}", case, one)
        for name, one in zip(LAYERS, explanations, strict=True)
    ]
    strips = [panels[first : first + _COLUMNS] for first in range(0, len(panels), _COLUMNS)]
    page = draw_strips(
        [("", strip) for strip in strips],
        columns=_COLUMNS,
        caption=Caption(
            target=f"Respond-CAM at every layer of CNN-1: {case.name}, SNR {setting.snr_in_words}"
        ),
        notes=(
            (
                f"Above: the object in grey, and where the map has {100 * SHARE:.0f} % of its "
                f"strongest value. Below: the middle slice."
            ),
            (
                "Amber raises the score, blue lowers it. Each map has its own scale. The sum "
                "follows the score where what comes behind the layer is close to linear."
            ),
        ),
    )
    return save_figure(page, laboratory.folder / f"figure4-{setting.name[6:]}.png")


def _grid(shape: tuple[int, ...]) -> str:
    return " x ".join(map(str, shape))
