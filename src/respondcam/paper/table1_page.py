"""Table 1 on paper: Markdown and a figure."""

from collections.abc import Sequence

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from respondcam.evidence.audit import Spread
from respondcam.paper.networks import snr_in_words
from respondcam.paper.table1 import Row, Sums
from respondcam.show.theme import Theme, theme_named

_POINTS = 3000  # more would only be darker


def markdown(rows: Sequence[Row]) -> str:
    """Write the table, and the controls below it."""
    first = rows[0]
    lines = [
        "# Table 1: do the sums of the maps follow the scores?",
        "",
        (
            f"{first.images} test images, {first.classes} classes, layer maxpool2. Mean ± standard "
            f"deviation over images of the mean absolute difference over classes (L1) and of "
            f"Kendall's tau-b."
        ),
        "",
        "| network | SNR | right | L1 Grad-CAM | L1 Respond-CAM | tau Grad-CAM | tau Respond-CAM |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.network} | {snr_in_words(row.snr)} | {100 * row.accuracy:.1f} % | "
        f"{_pm(row.grad.l1)} | {_pm(row.respond.l1)} | "
        f"{_pm(row.grad.tau)} | {_pm(row.respond.tau)} |"
        for row in rows
    ]
    lines += [
        "",
        "## Controls",
        "",
        (
            "What a map that is zero everywhere gets, Grad-CAM times the one factor that fits all "
            "scores best, and Integrated Respond-CAM: its relative gap "
            f"|y(A) - y(0) - sum| / |y(A) - y(0)| with {first.nodes} nodes, over "
            f"{first.integrated.images} images."
        ),
        "",
        "| network | SNR | sum = 0, L1 | Grad-CAM rescaled, L1 | factor | Integrated, gap |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.network} | {snr_in_words(row.snr)} | {_pm(row.zero.l1)} | "
        f"{_pm(row.rescaled.l1)} | {row.factor:.3g} | {_small(row.integrated.relative_gap)} |"
        for row in rows
    ]
    factors = [factor for factor, _ in first.bias]
    lines += [
        "",
        "## Why it holds",
        "",
        (
            "A head of ReLUs is linear along every ray but for its biases. With the biases of the "
            f"layers behind maxpool2 multiplied, Respond-CAM's L1 (over {first.bias[0][1].images} "
            "images) grows with them:"
        ),
        "",
        "| network | SNR | " + " | ".join(f"biases x {factor:g}" for factor in factors) + " |",
        "| --- | --- |" + " ---: |" * len(factors),
    ]
    lines += [
        f"| {row.network} | {snr_in_words(row.snr)} | "
        + " | ".join(f"{summary.l1.mean:.3f}" for _, summary in row.bias)
        + " |"
        for row in rows
    ]
    return "\n".join(lines) + "\n"


def figure(rows: Sequence[Row], sums: Sequence[Sums], *, look: str = "light") -> Figure:
    """Draw the sum of each map against its score, for both methods and all rows."""
    theme = theme_named(look)
    drawn = Figure(
        figsize=(theme.width_inches, 0.6 + 2.5 * len(rows)),
        layout="constrained",
        facecolor=theme.page,
    )
    axes = drawn.subplots(len(rows), 2, squeeze=False)
    for line, row, found in zip(axes, rows, sums, strict=True):
        for ax, name, mapped, summary in (
            (line[0], "Grad-CAM", found.grad, row.grad),
            (line[1], "Respond-CAM", found.respond, row.respond),
        ):
            _scatter(ax, found, mapped, theme)
            ax.set_title(
                f"{name}, {row.network}, SNR {snr_in_words(row.snr)}\n"
                f"L1 {summary.l1.mean:.3g}, tau {summary.tau.mean:.3f}",
                fontsize=theme.text_size,
                color=theme.ink,
            )
    return drawn


def _scatter(ax: Axes, found: Sums, mapped: torch.Tensor, theme: Theme) -> None:
    score, own = found.score.flatten(), mapped.flatten()
    if len(score) > _POINTS:
        kept = torch.linspace(0, len(score) - 1, _POINTS).long()
        score, own = score[kept], own[kept]
    low, high = float(score.min()), float(score.max())
    ax.plot([low, high], [low, high], color=theme.muted, linewidth=0.8, label="sum = score")
    ax.legend(fontsize=theme.small_size, labelcolor=theme.muted, frameon=False)
    ax.scatter(
        score,
        own,
        s=2 if len(score) > 300 else 8,
        color=theme.negative,
        linewidths=0,
        rasterized=True,
    )
    ax.set_facecolor(theme.page)
    ax.set_xlabel("score", fontsize=theme.small_size, color=theme.muted)
    ax.set_ylabel("sum of the map", fontsize=theme.small_size, color=theme.muted)
    ax.tick_params(labelsize=theme.small_size, colors=theme.muted)
    for spine in ax.spines.values():
        spine.set_color(theme.line)


def _pm(spread: Spread) -> str:
    return f"{spread.mean:.3f} ± {spread.std:.3f}"


def _small(spread: Spread) -> str:
    return f"{spread.mean:.1e} ± {spread.std:.1e}"
