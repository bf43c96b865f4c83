r"""Table 1 of the publication: whether the sums of the maps of all classes follow the scores.

Zhao, Zhou, Wang, Jiang, Xu: Respond-CAM, MICCAI 2018 (arXiv:1806.00102), section 3.2. For every
test image, Grad-CAM and Respond-CAM of all classes at the layer ``maxpool2``; the mean over classes
of :math:`|\sum_i L^{(c)}_i - y^{(c)}|` (L1) and Kendall's tau-b between sums and scores.

Beside it stand controls, since a small L1 alone proves little:

- **sum = 0**: a "map" that is zero everywhere.
- **Grad-CAM rescaled**: all its sums times the one factor that fits the scores of all test images
  best (least squares). What is left cannot be blamed on the scale.
- **biases of the head times 0, 1, 10, ...**: a head of ReLUs is linear in its input but for its
  biases, so Respond-CAM's L1 measures what they contribute. It is small because they are.
- **Integrated Respond-CAM**: the relative gap ``|y(A) - y(0) - sum| / |y(A) - y(0)|``.

Departures from the publication: its data were never released, so the images are simulated here;
CNN-2 is our own choice (`respondcam.network.paper`); maps are signed and not clipped.
"""

import copy
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from respondcam.attribution import (
    Explainer,
    Explanation,
    GradCAM,
    IntegratedRespondCAM,
    RespondCAM,
)
from respondcam.cryoet.training_data import Images
from respondcam.evidence.audit import AuditSummary, SumToScore, sum_to_score, summarise

LAYER = "maxpool2"
BIAS_FACTORS = (0.0, 1.0, 10.0, 30.0, 100.0)
NODES = 16
_BATCH = 23
_BIAS_IMAGES, _INTEGRATED_IMAGES = 46, 92


@dataclass(frozen=True, eq=False)
class Sums:
    """Scores and sums of maps of all classes for every test image.

    Parameters
    ----------
    labels
        True class of each image.
    score, baseline
        Scores, and what the network gives for a layer that is zero.
    grad, respond
        Sums of the maps.
    integrated
        Of Integrated Respond-CAM, for the first of the images only: it takes as long as `NODES`
        maps of the other two.
    """

    labels: Int[Tensor, "image"]
    score: Float[Tensor, "image class"]
    baseline: Float[Tensor, "image class"]
    grad: Float[Tensor, "image class"]
    respond: Float[Tensor, "image class"]
    integrated: Float[Tensor, "some class"]


@dataclass(frozen=True)
class Row:
    """One row of the table: a network on images of one kind.

    Parameters
    ----------
    network, snr
        Which network, and how noisy the images are.
    accuracy
        Share of test images whose own class has the highest score.
    images, classes
        How many.
    grad, respond
        The publication's two columns.
    zero, rescaled
        Controls: maps whose sum is zero, and Grad-CAM times `factor`.
    factor
        What fits Grad-CAM's sums to the scores best.
    integrated
        Of Integrated Respond-CAM, with `nodes`, over the first of the images.
    nodes
        Points of the path.
    bias
        Respond-CAM with the biases of the head times each factor.
    """

    network: str
    snr: float
    accuracy: float
    images: int
    classes: int
    grad: AuditSummary
    respond: AuditSummary
    zero: AuditSummary
    rescaled: AuditSummary
    factor: float
    integrated: AuditSummary
    nodes: int
    bias: tuple[tuple[float, AuditSummary], ...]


def measure(
    model: nn.Module,
    images: Images,
    *,
    network: str,
    snr: float,
    seed: int = 0,
    device: torch.device | str = "cpu",
    on_progress: Callable[[int, int], None] | None = None,
) -> tuple[Row, Sums]:
    """Explain all classes of every image, and give the row of the table.

    Parameters
    ----------
    model
        With a layer ``maxpool2`` and, behind it, fully connected layers.
    images
        The test images.
    network, snr
        For the row.
    seed
        Of the noise.
    device
        Where the network is.
    on_progress
        Told, batch by batch, how many images are done, of how many.
    """
    model.eval()
    sums = _sums(model, images, seed, device, on_progress)
    factor = best_factor(sums.grad, sums.score)
    bias = tuple(
        (scale, _with_biases(model, images, scale, seed, device)) for scale in BIAS_FACTORS
    )

    def audited(mapped: Tensor) -> AuditSummary:
        some = slice(len(mapped))
        return summarise(sum_to_score(sums.score[some], sums.baseline[some], mapped))

    row = Row(
        network=network,
        snr=snr,
        accuracy=float((sums.score.argmax(dim=1) == sums.labels).double().mean()),
        images=len(sums.labels),
        classes=int(sums.score.shape[1]),
        grad=audited(sums.grad),
        respond=audited(sums.respond),
        zero=audited(torch.zeros_like(sums.score)),
        rescaled=audited(factor * sums.grad),
        factor=factor,
        integrated=audited(sums.integrated),
        nodes=NODES,
        bias=bias,
    )
    return row, sums


def best_factor(mapped: Float[Tensor, "image class"], score: Float[Tensor, "image class"]) -> float:
    """Number whose product with all sums is closest to the scores (least squares).

    Examples
    --------
    >>> best_factor(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 6.0]]))
    3.0
    """
    own = float((mapped.double() ** 2).sum())
    return float((mapped.double() * score.double()).sum()) / own if own > 0 else math.nan


def head_with_biases(model: nn.Module, factor: float, layer: str = LAYER) -> nn.Module:
    """Copy a network with the biases of its modules behind `layer` multiplied.

    Modules count as behind the layer where they stand behind it in the order of definition.

    Examples
    --------
    >>> from respondcam.network.paper import cnn_2
    >>> scaled = head_with_biases(cnn_2(3, 16), 0.0)
    >>> scaled.fc2.bias.abs().sum().item(), scaled.conv1.conv.bias.abs().sum().item() > 0
    (0.0, True)
    """
    scaled = copy.deepcopy(model)
    behind = False
    with torch.no_grad():
        for name, module in scaled.named_modules():
            behind |= name == layer
            bias = getattr(module, "bias", None)
            if behind and isinstance(bias, Tensor):
                bias.mul_(factor)
    return scaled


def _sums(
    model: nn.Module,
    images: Images,
    seed: int,
    device: torch.device | str,
    on_progress: Callable[[int, int], None] | None,
) -> Sums:
    grad, respond = GradCAM(model, layer=LAYER), RespondCAM(model, layer=LAYER)
    integrated = IntegratedRespondCAM(model, layer=LAYER, nodes=NODES)
    parts: list[tuple[Tensor, ...]] = []
    some: list[Tensor] = []
    done = 0
    for batch, labels in _batches(images, seed, device):
        one, two = (_explained(explain, batch) for explain in (grad, respond))
        mapped = [found.maps.double().flatten(2).sum(dim=2).cpu() for found in (one, two)]
        score, baseline = two.account.score.double().cpu(), two.account.baseline.double().cpu()
        parts.append((labels.cpu(), score, baseline, *mapped))
        if done < _INTEGRATED_IMAGES:
            some.append(_explained(integrated, batch).account.mapped.double().cpu())
        done += len(labels)
        if on_progress is not None:
            on_progress(done, len(images))
    columns = (torch.cat(column) for column in zip(*parts, strict=True))
    return Sums(*columns, integrated=torch.cat(some))


def _explained(explain: Explainer, batch: Tensor) -> Explanation:
    found = explain(batch, target="all")
    assert isinstance(found, Explanation)  # one layer gives one
    return found


def _with_biases(
    model: nn.Module, images: Images, factor: float, seed: int, device: torch.device | str
) -> AuditSummary:
    """Respond-CAM's figures, on some of the images, of the network with other biases."""
    scaled = head_with_biases(model, factor)
    explain = RespondCAM(scaled, layer=LAYER)
    some = _spread_over_classes(images, _BIAS_IMAGES)
    rows: list[SumToScore] = []
    for batch, _ in _batches(some, seed, device):
        account = _explained(explain, batch).account
        rows += sum_to_score(account.score, account.baseline, account.mapped)
    return summarise(rows)


def _batches(
    images: Images, seed: int, device: torch.device | str
) -> Iterator[tuple[Tensor, Tensor]]:
    return images.batches(_BATCH, seed=seed, shuffle=False, device=device)


def _spread_over_classes(images: Images, count: int) -> Images:
    """About `count` images, of all classes alike: they stand class after class in turn."""
    kept = torch.arange(min(count, len(images)))
    return Images(images.volumes[kept], images.labels[kept], images.imaging)


def columns(rows: Sequence[Row]) -> list[dict[str, object]]:
    """One flat record per row, for CSV and JSON."""
    flat: list[dict[str, object]] = []
    for row in rows:
        record: dict[str, object] = {
            "network": row.network,
            "snr": "infinity" if math.isinf(row.snr) else row.snr,
            "accuracy": row.accuracy,
            "images": row.images,
            "classes": row.classes,
        }
        named = {
            "grad_cam": row.grad,
            "respond_cam": row.respond,
            "sum_zero": row.zero,
            "grad_cam_rescaled": row.rescaled,
            "integrated": row.integrated,
        }
        for name, summary in named.items():
            record |= {f"{name}_l1_mean": summary.l1.mean, f"{name}_l1_std": summary.l1.std}
            record |= {f"{name}_tau_mean": summary.tau.mean, f"{name}_tau_std": summary.tau.std}
            record[f"{name}_relative_gap_mean"] = summary.relative_gap.mean
        record["rescaling_factor"] = row.factor
        record["integrated_nodes"] = row.nodes
        for factor, summary in row.bias:
            record[f"respond_cam_l1_biases_times_{factor:g}"] = summary.l1.mean
        flat.append(record)
    return flat
