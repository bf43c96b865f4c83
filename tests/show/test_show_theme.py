"""The look, measured: perceptual steps in CIELAB, colour blindness, contrast, and numbers."""

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from respondcam.errors import InputError
from respondcam.show import theme
from respondcam.show.theme import (
    THEMES,
    format_length,
    format_score,
    format_together,
    grey_window,
    printable,
    signed_colours,
    signed_rgba,
    theme_named,
)

# Machado, Oliveira, Fernandes 2009: full dichromacy, on linear sRGB
DICHROMATS = {
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def linear(rgb: np.ndarray) -> np.ndarray:
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def lab(linear_rgb: np.ndarray) -> np.ndarray:
    to_xyz = [[0.4124564, 0.3575761, 0.1804375], [0.2126729, 0.7151522, 0.0721750]]
    to_xyz.append([0.0193339, 0.1191920, 0.9503041])
    xyz = np.clip(linear_rgb, 0, 1) @ np.array(to_xyz).T / [0.95047, 1.0, 1.08883]
    f = np.where(xyz > 0.008856, np.cbrt(xyz), 7.787 * xyz + 16 / 116)
    x, y, z = np.moveaxis(f, -1, 0)
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def map_colours() -> np.ndarray:
    return np.asarray(signed_colours()(np.arange(257)))[:, :3]


def test_colour_steps_are_perceptually_even_and_both_signs_equally_strong():
    colours = lab(linear(map_colours()))
    steps = np.linalg.norm(np.diff(colours, axis=0), axis=1)
    assert steps.std() / steps.mean() < 0.06  # matplotlib's RdBu_r: 0.25
    assert steps[:128].sum() == pytest.approx(steps[128:].sum(), rel=0.02)
    assert colours[0, 0] == pytest.approx(colours[-1, 0], abs=3)


def test_colours_are_neutral_at_zero_and_lighter_away_from_it():
    colours = lab(linear(map_colours()))
    assert np.hypot(*colours[128, 1:]) < 0.1
    assert np.all(np.diff(colours[128:, 0]) > -0.01)
    assert np.all(np.diff(colours[:129, 0]) < 0.01)


@pytest.mark.parametrize("kind", DICHROMATS)
def test_signs_differ_for_colour_blind_readers(kind):
    seen = lab(linear(map_colours()) @ np.array(DICHROMATS[kind]).T)
    apart = np.linalg.norm(seen - seen[::-1], axis=1)
    assert apart[64] > 70  # half of the limit
    assert apart[0] > 85
    assert np.all(np.diff(apart[:129]) < 1)  # weaker values never look more different


def contrast(one: str, other: str) -> float:
    luminance = [linear(np.array(to_rgb(c))) @ [0.2126, 0.7152, 0.0722] for c in (one, other)]
    return float((max(luminance) + 0.05) / (min(luminance) + 0.05))


@pytest.mark.parametrize("name", THEMES)
def test_text_and_bars_are_readable_on_the_page(name):
    theme = theme_named(name)
    assert contrast(theme.ink, theme.page) > 7
    assert contrast(theme.muted, theme.page) > 4.5  # WCAG AA for text
    assert contrast(theme.positive, theme.page) > 3  # WCAG for graphics
    assert contrast(theme.negative, theme.page) > 3


def test_opacity_follows_the_value_and_is_cut_at_the_limit():
    rgba = signed_rgba(np.array([-4.0, -2.0, -0.5, 0.0, 0.5, 2.0, 4.0]), 2.0, opacity=0.8)
    np.testing.assert_allclose(rgba[:, 3], [0.8, 0.8, 0.2, 0, 0.2, 0.8, 0.8])
    np.testing.assert_array_equal(rgba[0], rgba[1])
    assert rgba[-1, 0] > rgba[-1, 2]  # positive is warm
    assert rgba[0, 0] < rgba[0, 2]


@pytest.mark.parametrize("limit", [0.0, -1.0, np.nan, np.inf])
def test_colour_limit_must_be_above_zero(limit):
    with pytest.raises(InputError, match="limit"):
        signed_rgba(np.zeros(3), limit)


def test_opacity_must_be_a_share():
    with pytest.raises(InputError, match=r"opacity=1\.5"):
        signed_rgba(np.zeros(3), 1.0, opacity=1.5)


def test_unknown_theme_names_the_themes():
    with pytest.raises(InputError, match=r"'sepia'.*'light', 'dark'"):
        theme_named("sepia")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (3.14159, "3.142"),
        (-1234.56, "−1235"),
        (0.00012345, "0.0001234"),
        (9.99999e-5, "0.0001000"),  # rounds up to the next power
        (1.5e-9, "1.5×10⁻⁹"),
        (-2e12, "−2×10¹²"),
        (999999.9, "1×10⁶"),
        (float("nan"), "nan"),
    ],
)
def test_scores_are_written_in_significant_digits(value, text):
    assert format_score(value) == text


def test_terms_that_are_added_up_have_equal_decimals():
    assert format_together([3.2144, 0.4121, 2.9, -0.0977]) == ["3.214", "0.412", "2.900", "−0.098"]
    assert format_together([0.0, 0.0]) == ["0.000", "0.000"]
    assert format_together([12345.6, 0.2]) == ["12346", "0"]
    assert format_together([-1.2e9, 1e6]) == ["−1.200×10⁹", "0.001×10⁹"]


def test_lengths_carry_their_unit():
    assert format_length(0.5, "mm") == "0.5 mm"
    assert format_length(-20.0, "angstrom") == "−20 Å"


def test_grey_window_is_robust_and_never_empty():
    voxels = np.random.default_rng(0).normal(size=(40, 40, 40))
    voxels[0, 0, 0] = 1e9
    low, high = grey_window(voxels)
    assert -5 < low < -2.5
    assert 2.5 < high < 5
    assert grey_window(np.zeros((3, 3))) == (-0.5, 0.5)
    rare = np.zeros(100_000)
    rare[7] = 2.0
    assert grey_window(rare) == (0.0, 2.0)


def test_names_are_drawn_on_one_line_with_known_glyphs(monkeypatch):
    assert printable("a\tb\r\nc\x1b[31m\u202e") == "a b c\ufffd[31m\ufffd"
    monkeypatch.setattr(theme, "_glyphs", lambda: frozenset(range(256)) | {0x0394})
    assert printable("細胞.mrc") == r"\u7d30\u80de.mrc"  # no font has them
    monkeypatch.undo()
    assert printable("Ångström β-Gal — ½") == "Ångström β-Gal — ½"
    long = printable("x" * 200 + "end.mrc", 30)
    assert len(long) == 30
    assert long.endswith("end.mrc")


def test_a_font_with_more_letters_is_used_where_it_is_installed(monkeypatch):
    assert theme.fonts()[0] == "DejaVu Sans"
    few = theme._glyphs()
    monkeypatch.setattr(theme, "_WITH_MORE_LETTERS", ("no such font", "STIXGeneral"))
    try:
        for cached in (theme.fonts, theme._glyphs):
            cached.cache_clear()
        assert theme.fonts() == ("DejaVu Sans", "STIXGeneral")
        more = sorted(theme._glyphs() - few)
        assert more
        assert printable(chr(more[-1])) == chr(more[-1])
    finally:
        for cached in (theme.fonts, theme._glyphs):
            cached.cache_clear()


def test_the_font_is_the_one_that_matplotlib_ships():
    assert mpl.font_manager.findfont("DejaVu Sans", fallback_to_default=False)
