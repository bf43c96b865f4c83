"""Planes and montages, read back from their pixels."""

import numpy as np
import pytest
from scipy.ndimage import uniform_filter

from respondcam.errors import InputError, VolumeError
from respondcam.show.caption import AccountLine, Caption
from respondcam.show.flat import image_overlay
from respondcam.show.slices import orthogonal_planes, slice_montage
from respondcam.show.theme import grey_window
from respondcam.volume import Volume, read_volume

PLANES = ((1, 2), (0, 2), (0, 1))  # world axes (0, 1, 2 for z, y, x) drawn upwards and rightwards


def blob(like: Volume, centre_xyz, *, width: float, height: float = 1.0, step: int = 1) -> Volume:
    """Plant a Gaussian at a place in the world, on a grid `step` times as coarse."""
    shape = tuple(-(-n // step) for n in like.shape)
    affine = like.affine @ np.diag([step, step, step, 1.0])
    grid = Volume(np.zeros(shape), affine, like.unit)
    away = grid.world(np.moveaxis(np.indices(shape), 0, -1)) - np.asarray(centre_xyz)
    return grid.with_voxels(height * np.exp(-(away**2).sum(-1) / 2 / width**2))


def box_of(volume: Volume) -> tuple[np.ndarray, np.ndarray]:
    """Give the lowest and highest world x, y, z of the volume's faces; for grids along the axes."""
    ends = np.array([volume.world((-0.5,) * 3), volume.world(np.array(volume.shape) - 0.5)])
    return ends.min(axis=0), ends.max(axis=0)


def overlay_place(figure, faint, number, pixels) -> np.ndarray:
    """Find where the map changes a panel most: shares of its width and height."""
    change = np.abs(pixels(figure, figure.axes[number]) - pixels(faint, faint.axes[number]))
    strength = uniform_filter(change.sum(axis=-1), 9)  # over the thin contour
    row, column = np.unravel_index(np.argmax(strength), strength.shape)
    return np.array([(column + 0.5) / strength.shape[1], 1 - (row + 0.5) / strength.shape[0]])


def check_peak(volume: Volume, signed: Volume, peak_xyz, pixels, tolerance_voxels=1.0) -> None:
    limit = float(np.abs(signed.voxels).max())
    figure = orthogonal_planes(volume, signed)
    faint = orthogonal_planes(volume, signed.with_voxels(signed.voxels * 1e-6), limit=limit)
    low, high = box_of(volume)
    share_xyz = (np.asarray(peak_xyz) - low) / (high - low)
    largest = max(volume.voxel_size)
    for number, (up, right) in enumerate(PLANES):
        found = overlay_place(figure, faint, number, pixels)
        expected = share_xyz[[2 - right, 2 - up]]
        size = (high - low)[[2 - right, 2 - up]]
        assert np.all(np.abs(found - expected) * size < tolerance_voxels * largest), number


AFFINES = {
    "RAS": np.diag([1.0, 1.0, 1.0, 1.0]),
    "LAS, thick slices": np.array([[-1, 0, 0, 9], [0, 1, 0, -4], [0, 0, 3, 2], [0, 0, 0, 1.0]]),
    "PIR, all different": np.array([[0, 0, 2, 1], [-1, 0, 0, 5], [0, -3, 0, 0], [0, 0, 0, 1.0]]),
}


@pytest.mark.parametrize("name", AFFINES)
@pytest.mark.parametrize("height", [1.0, -0.003])
def test_overlay_is_strongest_where_the_peak_is(name, height, pixels):
    volume = Volume(np.ones((18, 22, 26)), AFFINES[name], "mm")
    peak = volume.world((5, 15, 8))
    check_peak(volume, blob(volume, peak, width=4, height=height), peak, pixels)


@pytest.mark.parametrize("name", AFFINES)
def test_map_of_a_coarse_layer_is_shown_in_its_place(name, pixels):
    volume = Volume(np.ones((18, 22, 26)), AFFINES[name], "mm")
    peak = volume.world((8, 12, 16))  # a node of the coarse grid
    check_peak(volume, blob(volume, peak, width=3, step=4), peak, pixels)


@pytest.mark.parametrize("name", ["volumes/anatomical.nii", "densities/1bxn.mrc"])
def test_real_volumes_show_the_peak_in_its_place(name, shared_data, pixels):
    volume = read_volume(shared_data / name)
    z, y, x = volume.shape
    peak = volume.world((z // 3, 2 * y // 3, x // 4))
    width = 3 * max(volume.voxel_size)
    check_peak(volume, blob(volume, peak, width=width, height=-2e-4), peak, pixels)


@pytest.mark.parametrize("name", AFFINES)
def test_letters_stand_on_the_side_they_name(name, pixels, letters):
    nibabel = pytest.importorskip("nibabel")
    volume = Volume(np.zeros((18, 22, 26)), AFFINES[name], "mm")
    codes = nibabel.aff2axcodes(volume.affine)  # where the array's x, y, z axes point
    for array_axis, code in zip((2, 1, 0), codes, strict=True):
        voxels = np.zeros(volume.shape)
        np.moveaxis(voxels, array_axis, 0)[-4:] = 1.0  # a bright end of that axis
        figure = orthogonal_planes(volume.with_voxels(voxels))
        seen = 0
        for axes in figure.axes[:3]:
            bright = pixels(figure, axes).mean(axis=-1) > 200
            edges = {
                "left": bright[:, :3].mean(),
                "right": bright[:, -3:].mean(),
                "bottom": bright[-3:].mean(),
                "top": bright[:3].mean(),
            }
            for side, letter in letters(figure, axes).items():
                if letter == code:
                    assert edges[side] > 0.9, (axes, side)
                    seen += 1
                else:
                    assert edges[side] < 0.5
        assert seen == 2  # an axis of the world is seen in two of the three planes


def test_anatomical_letters_are_those_of_a_radiology_atlas(shared_data, letters):
    figure = orthogonal_planes(read_volume(shared_data / "volumes" / "anatomical.nii"))
    axial, coronal, sagittal = (letters(figure, axes) for axes in figure.axes[:3])
    assert axial == {"left": "L", "right": "R", "bottom": "P", "top": "A"}
    assert coronal == {"left": "L", "right": "R", "bottom": "I", "top": "S"}
    assert sagittal == {"left": "P", "right": "A", "bottom": "I", "top": "S"}


def test_densities_name_the_axes_instead(shared_data, letters):
    figure = orthogonal_planes(read_volume(shared_data / "densities" / "1bxn.mrc"))
    assert letters(figure, figure.axes[0]) == {"left": "", "right": "+x", "bottom": "", "top": "+y"}


@pytest.mark.parametrize("draw", [orthogonal_planes, slice_montage])
@pytest.mark.parametrize(("unit", "word"), [("mm", "mm"), ("angstrom", "Å"), ("voxel", "voxels")])
def test_scale_bar_is_as_long_as_it_says(draw, unit, word, pixels):
    affine = np.diag([1.3, 2.1, 4.7, 1.0])
    volume = Volume(np.random.default_rng(0).random((12, 30, 40)), affine, unit)
    figure = draw(volume)
    figure.canvas.draw()
    texts = [t for t in figure.texts if t.get_text().endswith(f" {word}")]
    length = float(texts[-1].get_text().split()[0])
    panel = figure.axes[0].get_window_extent()
    pixels_per_unit = panel.width / (40 * 1.3)
    assert panel.height / (30 * 2.1) == pytest.approx(pixels_per_unit)
    page = np.asarray(figure.canvas.buffer_rgba())[..., :3].max(axis=-1)
    label = texts[-1].get_window_extent()
    row = page[len(page) - round((label.y0 + label.y1) / 2), : int(label.x0)]
    assert np.count_nonzero(row < 80) == pytest.approx(length * pixels_per_unit, abs=1.5)


def test_planes_share_one_scale_with_thick_slices():
    volume = Volume(np.zeros((10, 30, 40)), np.diag([1.0, 1.0, 5.0, 1.0]), "mm")
    figure = orthogonal_planes(volume)
    sizes = [axes.get_window_extent() for axes in figure.axes[:3]]
    scale = sizes[0].width / 40
    for box, (width, height) in zip(sizes, [(40, 30), (40, 50), (30, 50)], strict=True):
        assert (box.width, box.height) == pytest.approx((width * scale, height * scale))


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_zero_map_leaves_the_grey_values_untouched(theme, pixels):
    volume = Volume(np.random.default_rng(0).random((3, 8, 8)))
    zero = volume.with_voxels(np.zeros((3, 8, 8)))
    caption = Caption(why_empty="no gradient reaches conv5")
    figure = slice_montage(volume, zero, theme=theme, caption=caption)
    low, high = grey_window(volume.voxels)
    for axes, expected in zip(figure.axes[:3], volume.voxels, strict=True):
        shown = pixels(figure, axes)
        rows = ((np.arange(8) + 0.5) / 8 * shown.shape[0]).astype(int)
        columns = ((np.arange(8) + 0.5) / 8 * shown.shape[1]).astype(int)
        grey = 255 * np.clip((expected[::-1] - low) / (high - low), 0, 1)  # y upwards
        for channel in range(3):
            np.testing.assert_allclose(shown[np.ix_(rows, columns)][..., channel], grey, atol=2)
    words = " ".join(text.get_text() for text in figure.texts)
    assert "The map is zero everywhere: no gradient reaches conv5" in words
    assert "raises the score" not in words  # no colours, no colour bar


def test_weak_values_are_nearly_invisible(pixels):
    volume = Volume(np.random.default_rng(0).random((3, 8, 8)))
    weak = volume.with_voxels(np.full((3, 8, 8), 1e-4))
    figure, bare = slice_montage(volume, weak, limit=1.0), slice_montage(volume, weak, limit=1e6)
    for one, other in zip(figure.axes[:3], bare.axes[:3], strict=True):
        assert np.abs(pixels(figure, one) - pixels(bare, other)).max() <= 1


@pytest.mark.parametrize("draw", [orthogonal_planes, slice_montage])
@pytest.mark.parametrize(("limit", "expected"), [(None, 3.0), (7.5, 7.5)])
def test_colours_are_symmetric_about_zero(draw, limit, expected):
    volume = Volume(np.random.default_rng(0).random((6, 8, 8)))
    signed = np.full((6, 8, 8), 0.5)
    signed[3, 4, 4] = -3.0
    figure = draw(volume, volume.with_voxels(signed), limit=limit)
    bar = figure.axes[-1]
    assert bar.get_ylim() == pytest.approx((-expected, expected))
    numbers = {text.get_text() for text in figure.texts}
    assert {f"+{expected:.2f}", f"−{expected:.2f}", "0"} <= numbers


@pytest.mark.parametrize("draw", [orthogonal_planes, slice_montage])
def test_a_limit_that_cuts_the_strongest_values_says_so(draw):
    volume = Volume(np.random.default_rng(0).random((6, 8, 8)))
    signed = np.full((6, 8, 8), 0.5)
    signed[3, 4, :4] = -3.0, 2.0, 1.5, 1.0

    def words(limit):
        figure = draw(volume, volume.with_voxels(signed), limit=limit)
        return " ".join(" ".join(text.get_text() for text in figure.texts).split())

    assert "0.78 % of the map lies beyond ±1.00, where scale and colours end" in words(1.0)
    assert "beyond ±" not in words(None)
    assert "beyond ±" not in words(3.0)


def test_colour_bar_shows_the_colours_of_the_panel(pixels):
    volume = Volume(np.full((4, 4, 4), 1.0))  # constant: mid-grey
    figure = slice_montage(volume, volume.with_voxels(np.full((4, 4, 4), -0.25)), limit=1.0)
    panel = pixels(figure, figure.axes[0])
    shown = panel[len(panel) // 2, panel.shape[1] // 2]
    bar = pixels(figure, figure.axes[-1])
    row = round((1 - (-0.25 + 1) / 2) * (len(bar) - 1))
    np.testing.assert_allclose(bar[row, bar.shape[1] // 2], shown, atol=6)


@pytest.mark.parametrize("draw", [orthogonal_planes, slice_montage])
def test_the_outline_is_at_half_of_the_limit_and_named_at_the_colour_bar(draw):
    volume = Volume(np.random.default_rng(0).random((12, 12, 12)), unit="mm")
    values = np.zeros((12, 12, 12))
    values[3, 3, 3], values[8, 8, 8] = 4.0, -3.0
    figure = draw(volume, volume.with_voxels(values))
    levels = {level for axes in figure.axes for drawn in axes.collections for level in drawn.levels}
    assert 2.0 in levels
    assert levels <= {-2.0, 2.0}
    at = {text.get_text(): text.get_position() for text in figure.texts}
    named = [text.get_position() for text in figure.texts if text.get_text() == "outline"]
    inches = figure.get_size_inches()[1]
    for number, (left, height) in zip(("\u22122.00", "+2.00"), named, strict=True):
        assert left == at[number][0]
        assert 0 < at[number][1] - height < 0.15 / inches


@pytest.mark.parametrize("shape", [(8, 8, 8), (30, 8, 12), (8, 40, 8)])
def test_no_empty_space_between_the_planes_and_the_account(shape):
    volume = Volume(np.random.default_rng(0).random(shape))
    caption = Caption(target="cat", account=AccountLine(3.0, 0.5, 2.25, 0.25))
    figure = orthogonal_planes(volume, volume, caption=caption)
    (sentence,) = (t for t in figure.texts if t.get_text().startswith("score 3.000 ="))
    inches = figure.get_size_inches()[1]
    account = inches * sentence.get_position()[1]
    bars, *body = sorted(axes.get_position().y0 * inches for axes in figure.axes)
    lower = [inches * text.get_position()[1] for text in figure.texts]
    lowest = min([*body, *(height for height in lower if height > account)])
    assert bars < account < lowest < account + 0.5


def test_planes_go_through_the_place_asked_for():
    volume = Volume(np.zeros((10, 12, 14)), np.diag([-1.0, 1.0, 1.0, 1.0]), "mm")
    signed = np.zeros((10, 12, 14))
    signed[2, 3, 4], signed[7, 8, 9] = -2.0, 1.0
    signed = volume.with_voxels(signed)

    def slices(at) -> list[int]:
        texts = [text.get_text() for text in orthogonal_planes(volume, signed, at=at).texts]
        names = ("axial", "coronal", "sagittal")
        return [int(t.split()[1]) for name in names for t in texts if t.startswith(f"{name} ")]

    assert slices(None) == slices("peak") == [2, 3, 4]
    assert slices("positive") == [7, 8, 9]
    assert slices("centre") == [5, 6, 6]  # of 14 voxels, the middle one on the patient's right
    assert slices((1, 0, 13)) == [1, 0, 13]


@pytest.mark.parametrize("at", ["nose", (1, 2), (0, 0, 99), (-1, 0, 0)])
def test_a_place_that_does_not_exist_is_refused(at):
    with pytest.raises(InputError, match="at="):
        orthogonal_planes(Volume(np.zeros((3, 3, 3))), at=at)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": 0.0}, "limit=0.0"),
        ({"limit": float("nan")}, "limit=nan"),
        ({"channel": 5}, "channel=5"),
        ({"theme": "sepia"}, "sepia"),
        ({"axis": 3}, "axis=3"),
        ({"count": 0}, "count=0"),
    ],
)
def test_options_that_do_not_exist_are_refused(options, message):
    with pytest.raises(InputError, match=message):
        slice_montage(Volume(np.zeros((3, 3, 3))), **options)


def test_map_elsewhere_in_the_world_is_refused():
    volume = Volume(np.zeros((3, 3, 3)))
    away = np.eye(4)
    away[0, 3] = 100
    with pytest.raises(VolumeError, match="outside the volume"):
        orthogonal_planes(volume, Volume(np.ones((3, 3, 3)), away))
    with pytest.raises(VolumeError, match=r"'mm'.*'voxel'"):
        orthogonal_planes(volume, Volume(np.ones((3, 3, 3)), unit="mm"))
    with pytest.raises(VolumeError, match="2 channels"):
        orthogonal_planes(volume, Volume(np.ones((2, 3, 3, 3))))
    with pytest.raises(VolumeError, match="NaN"):
        orthogonal_planes(volume, Volume(np.full((3, 3, 3), np.nan)))


def test_montage_spreads_over_the_volume_and_contains_the_peak():
    volume = Volume(np.zeros((40, 8, 8)))
    signed = np.zeros((40, 8, 8))
    signed[33, 2, 2] = -1.0
    figure = slice_montage(volume, volume.with_voxels(signed), count=5)
    shown = [int(t.get_text()[2:]) for t in figure.texts if t.get_text().startswith("z ")]
    assert shown == [4, 12, 20, 28, 33]
    figure = slice_montage(Volume(np.zeros((2, 8, 8))), first=30)  # cut out of a larger one
    assert [t.get_text() for t in figure.texts if t.get_text().startswith("z ")] == ["z 30", "z 31"]


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_peak_of_a_part_is_told_as_a_place_in_the_whole(axis: int) -> None:
    values = np.zeros((2, 8, 8))
    values[1, 1, 1] = 1.0
    figure = slice_montage(Volume(np.zeros((2, 8, 8))), Volume(values), first=30, axis=axis)
    place = ", ".join(str(1 + 30 * (axis == one)) for one in range(3))
    assert any(f"at voxel {place} of the image" in t.get_text() for t in figure.texts)


@pytest.mark.parametrize("draw", [orthogonal_planes, slice_montage])
def test_colours_are_parts_of_the_score_only_where_the_map_adds_up(draw):
    volume = Volume(np.arange(512.0).reshape(8, 8, 8))

    def words(**caption):
        return [text.get_text() for text in draw(volume, volume, caption=Caption(**caption)).texts]

    assert "score per voxel of the map" in words(method="respond")
    other = words(method="eigen", adds_up=False)
    assert "eigen's own scale" in other
    assert "score per voxel of the map" not in other


@pytest.mark.parametrize("draw", [orthogonal_planes, slice_montage, image_overlay])
def test_nothing_raises_the_score_in_a_map_of_a_method_that_does_not_look_at_it(draw):
    def words(method):
        given = np.arange(64.0).reshape(8, 8) if draw is image_overlay else volume
        figure = draw(given, given, caption=Caption(method=method, adds_up=False))
        return {text.get_text() for text in figure.texts}

    volume = Volume(np.arange(512.0).reshape(8, 8, 8))
    assert {"raises the score", "lowers the score"} <= words("ablation")
    assert {"high", "low"} <= words("eigen")
    assert not {"raises the score", "lowers the score"} & words("eigen")


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_montage_cuts_along_the_axis_of_the_array(axis, pixels):
    affine = np.array([[0, 0, 1, 0], [1, 0, 0, 0], [0, -1, 0, 0], [0, 0, 0, 1.0]])
    voxels = np.zeros((4, 5, 6))
    np.moveaxis(voxels, axis, 0)[1] = 1.0
    figure = slice_montage(Volume(voxels, affine, "mm"), axis=axis)
    titles = [t.get_text() for t in figure.texts if t.get_text()[:3] in ("axi", "cor", "sag")]
    for panel, title in zip(figure.axes, titles, strict=False):
        bright = pixels(figure, panel).mean()
        assert bright == pytest.approx(255 if title.split()[1] == "1" else 0, abs=2)


def test_the_words_name_everything():
    volume = Volume(np.ones((2, 5, 5, 5)), np.diag([2.0, 2.0, 2.0, 1.0]), "voxel")
    signed = Volume(np.full((5, 5, 5), 0.125), volume.affine)
    account = AccountLine(score=4.2, baseline=0.1, mapped=4.0, gap=0.1)
    caption = Caption("<b>$x$.mrc", "ribosome", "respond", "conv5", 4.2, account)
    figure = orthogonal_planes(volume, signed, channel=1, caption=caption)
    words = "\n".join(text.get_text() for text in figure.texts)
    for part in (
        "<b>$x$.mrc · ribosome",
        "respond · layer conv5 · score 4.200",
        "score 4.200 = baseline 0.100 + mapped 4.000 + gap 0.100",
        "the strongest +0.125 with its centre at voxel 0, 0, 0",
        "channel 1 of 2 is shown",
        "the volume is constant: every voxel is 1.000",
        "the voxel size is not known",
        "raises the score",
    ):
        assert part in words


def test_shapes_and_voxels_are_named_in_the_order_of_the_stored_image():
    volume = Volume(np.zeros((8, 12, 16)), np.diag([2.0, 2.0, 2.0, 1.0]), "mm")
    signed = np.zeros((4, 6, 8))
    signed[1, 2, 5] = 1.0
    coarse = Volume(signed, np.diag([4.0, 4.0, 4.0, 1.0]), "mm")
    for given in (coarse, coarse.transposed()):  # the axis order of a network is its own affair
        text = "\n".join(t.get_text() for t in orthogonal_planes(volume, given).texts)
        assert "map of 4 × 6 × 8 voxels (z, y, x), the strongest +1.00 with its centre at" in text
        assert "at voxel 2, 4, 10 of the image" in text


def test_a_file_with_permuted_axes_has_its_own_order_for_size_and_place_alike():
    x_last = np.diag([2.0, 2.0, 2.0, 1.0])[:, [1, 2, 0, 3]]  # i runs to P, j to S, k to R
    volume = Volume(np.random.default_rng(0).random((8, 12, 16)), x_last, "mm")
    signed = np.zeros((4, 6, 8))
    signed[1, 2, 5] = 1.0
    coarse = Volume(signed, x_last @ np.diag([2.0, 2.0, 2.0, 1.0]), "mm")
    for given in (coarse, coarse.transposed()):
        text = " ".join(t.get_text() for t in orthogonal_planes(volume, given).texts)
        assert "map of 4 × 6 × 8 voxels (z, y, x)" in text
        assert "at voxel 2, 4, 10 of the image" in text


def test_a_map_of_a_single_voxel_is_said_to_tell_no_place():
    volume = Volume(np.random.default_rng(0).random((8, 8, 8)))
    whole = Volume(np.full((1, 1, 1), -0.2), np.diag([8.0, 8.0, 8.0, 1.0]))
    text = " ".join(t.get_text() for t in orthogonal_planes(volume, whole).texts)
    assert "map of a single voxel, −0.200, which tells no place" in text


def test_all_words_stay_on_the_page_and_apart():
    volume = Volume(np.random.default_rng(0).random((9, 20, 20)), np.diag([1, 1, 3.0, 1]), "mm")
    signed = volume.with_voxels(np.random.default_rng(1).normal(size=volume.shape) * 1e-7)
    account = AccountLine(score=-1.2e-6, baseline=3e-7, mapped=-2e-6, gap=5e-7)
    long = Caption("W" * 90 + ".nii.gz", "M" * 90, "respond", "W" * 90, -1.2e-6, account)
    for draw in (orthogonal_planes, slice_montage):
        figure = draw(volume, signed, caption=long)
        figure.canvas.draw()
        boxes = [t.get_window_extent() for t in figure.texts if t.get_text()]
        page = figure.bbox
        for box in boxes:
            assert page.x0 <= box.x0 < box.x1 <= page.x1
            assert page.y0 <= box.y0 < box.y1 <= page.y1
        for number, box in enumerate(boxes):
            for other in boxes[:number]:
                across = min(box.x1, other.x1) - max(box.x0, other.x0)
                down = min(box.y1, other.y1) - max(box.y0, other.y0)
                assert across < 2 or down < 2


@pytest.mark.parametrize("shape", [(1, 1, 1), (1, 40, 40), (1, 30, 400), (300, 4, 4), (4, 300, 2)])
@pytest.mark.parametrize("draw", [orthogonal_planes, slice_montage])
def test_extreme_shapes_are_drawn(shape, draw, pixels):
    volume = Volume(np.random.default_rng(0).random(shape))
    signed = np.zeros(shape)
    signed[-1, -1, -1] = 1.0
    figure = draw(volume, volume.with_voxels(signed))
    assert pixels(figure, figure.axes[0]).size > 0
    assert figure.get_size_inches()[1] < 10


def test_inputs_are_not_written_to():
    voxels = np.random.default_rng(0).random((5, 6, 7)).astype(np.float32)
    volume, signed = Volume(voxels), Volume(voxels - 0.5)
    before = volume.voxels.tobytes(), signed.voxels.tobytes(), volume.affine.tobytes()
    slice_montage(volume, signed)
    orthogonal_planes(volume, signed)
    assert before == (volume.voxels.tobytes(), signed.voxels.tobytes(), volume.affine.tobytes())


@pytest.mark.parametrize("name", AFFINES)
def test_the_box_asked_for_lies_where_it_was_asked_for(name):
    volume = Volume(np.random.default_rng(0).random((9, 10, 11)), AFFINES[name], "mm")
    low, high = (1, 2, 3), (4, 8, 5)
    figure = orthogonal_planes(volume, at=(2, 3, 4), box=(low, high))
    ends = np.array([low, np.array(high) - 1])
    corners = np.array(
        [volume.world(end + side) for end, side in zip(ends, (-0.5, 0.5), strict=True)]
    )
    first, last = corners.min(axis=0), corners.max(axis=0)
    origin = box_of(volume)[0]
    for axes, (up, right) in zip(figure.axes[:3], PLANES, strict=True):
        (drawn,) = axes.patches
        place = [(first - origin)[2 - right], (first - origin)[2 - up]]
        assert drawn.get_xy() == pytest.approx(place)
        size = [(last - first)[2 - right], (last - first)[2 - up]]
        assert [drawn.get_width(), drawn.get_height()] == pytest.approx(size)
        assert drawn.get_linestyle() in ("-", "solid")
    beside = orthogonal_planes(volume, at=(8, 9, 10), box=(low, high))
    for axes in beside.axes[:3]:  # the planes pass it by
        assert axes.patches[0].get_linestyle() not in ("-", "solid")


@pytest.mark.parametrize(
    ("mapped", "words"),
    [(0.5, "leaves 75 % of what the image adds"), (-1.0, "gap is larger than all"), (1.5, "")],
)
def test_a_map_that_leaves_most_of_the_score_open_says_so_above_it(mapped, words):
    volume = Volume(np.random.default_rng(0).random((8, 8, 8)))
    account = AccountLine(3.0, 1.0, mapped, 2.0 - mapped)
    figure = orthogonal_planes(volume, volume, caption=Caption(account=account))
    told = [text.get_text() for text in figure.texts if text.get_fontweight() == "bold"]
    assert any(words in one for one in told)
    if not words:
        assert not any("open" in one for one in told)
