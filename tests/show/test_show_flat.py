"""Images and signals, read back from their pixels."""

import numpy as np
import pytest

from respondcam.errors import InputError
from respondcam.show import Caption, image_overlay, signal_trace


def test_overlay_of_an_image_is_where_its_peak_is(pixels):
    image = np.full((3, 40, 60), 0.5)
    image[:, :, 0], image[:, :, 1] = 0.0, 1.0
    signed = np.zeros((40, 60))
    signed[8:11, 44:47] = -2.0  # rows run downwards
    figure = image_overlay(image, signed)
    uncovered, covered = (pixels(figure, axes) for axes in figure.axes[:2])
    assert uncovered.shape == covered.shape
    change = np.abs(uncovered - covered).sum(axis=-1)
    change[change < 0.5 * change.max()] = 0
    rows, columns = np.indices(change.shape)
    row = (rows * change).sum() / change.sum() / change.shape[0]
    column = (columns * change).sum() / change.sum() / change.shape[1]
    assert (row, column) == pytest.approx((9.5 / 40, 45.5 / 60), abs=0.01)
    blue = covered[int(9.5 / 40 * len(covered)), int(45.5 / 60 * covered.shape[1])]
    assert blue[2] > blue[0] + 50  # negative is blue


def test_three_channels_are_shown_as_colours(pixels):
    image = np.zeros((3, 4, 6))
    image[0, 0, :3], image[1, 3, 3:] = 1.0, 1.0
    shown = pixels(image_overlay(image), image_overlay(image).axes[0])
    assert tuple(shown[5, 5]) == (255, 0, 0)
    assert tuple(shown[-5, -5]) == (0, 255, 0)


@pytest.mark.parametrize("channels", [(), (1,), (2,), (5,)])
def test_other_numbers_of_channels_are_grey(channels, pixels):
    image = np.random.default_rng(0).random((*channels, 5, 7))
    figure = image_overlay(image)
    shown = pixels(figure, figure.axes[0])
    assert np.ptp(shown, axis=-1).max() == 0
    assert np.ptp(shown) > 100


def test_pixels_are_square_and_the_bar_is_symmetric():
    image = np.random.default_rng(0).random((20, 50))
    figure = image_overlay(image, image - 0.5, limit=2.0)
    box = figure.axes[0].get_window_extent()
    assert box.width / box.height == pytest.approx(2.5)
    assert figure.axes[-1].get_ylim() == pytest.approx((-2, 2))


def test_a_limit_that_cuts_the_strongest_values_says_so():
    picture = np.linspace(-1.0, 1.0, 100).reshape(10, 10)
    for figure in (
        image_overlay(picture, picture, limit=0.8),
        signal_trace(picture[0], picture[0] / picture[0, 0], limit=0.8),
    ):
        words = " ".join(text.get_text() for text in figure.texts)
        assert "of the map lies beyond ±0.800" in " ".join(words.split())


def test_whole_numbers_are_an_image_too(pixels):
    image = np.arange(200, dtype=np.uint8).reshape(10, 20)
    figure, reference = image_overlay(image), image_overlay(image.astype(float))
    np.testing.assert_array_equal(
        pixels(figure, figure.axes[0]), pixels(reference, reference.axes[0])
    )


@pytest.mark.parametrize("shape", [(1, 1), (1, 300), (300, 1)])
def test_extreme_images_are_drawn(shape, pixels):
    image = np.random.default_rng(0).random(shape)
    figure = image_overlay(image, np.ones(shape))
    assert pixels(figure, figure.axes[0]).size > 0


def test_signal_and_map_share_their_axis():
    signal = np.random.default_rng(0).normal(size=(2, 80))
    signed = np.zeros(80)
    signed[30], signed[60] = 4.0, -2.0
    figure = signal_trace(signal, signed)
    trace, below = figure.axes
    assert len(trace.lines) == 2
    np.testing.assert_allclose(trace.lines[1].get_ydata(), signal[1])
    assert trace.get_xlim() == below.get_xlim() == (-0.5, 79.5)
    assert below.get_ylim() == (-4.0, 4.0)
    (positive, negative) = (area.get_paths()[0].vertices for area in below.collections)
    assert tuple(positive[np.argmax(positive[:, 1])]) == (30, 4)
    assert tuple(negative[np.argmin(negative[:, 1])]) == (60, -2)


@pytest.mark.parametrize(("draw", "shape"), [(image_overlay, (6, 8)), (signal_trace, (8,))])
def test_empty_maps_say_why(draw, shape):
    figure = draw(np.ones(shape), np.zeros(shape), caption=Caption(why_empty="dead ReLU"))
    assert "The map is zero everywhere: dead ReLU" in [t.get_text() for t in figure.texts]


@pytest.mark.parametrize(("draw", "shape"), [(image_overlay, (6, 8)), (signal_trace, (8,))])
def test_what_does_not_fit_is_refused(draw, shape):
    fine, other = np.ones(shape), np.ones((*shape[:-1], 9))
    with pytest.raises(InputError, match=r"place\(\)"):
        draw(fine, other)
    with pytest.raises(InputError, match="channels first"):
        draw(np.ones((2, 2, *shape)), fine)
    with pytest.raises(InputError, match="map holds"):
        draw(fine, np.full(shape, np.nan))
    with pytest.raises(InputError, match="input holds"):
        draw(np.full(shape, np.inf))
    with pytest.raises(InputError, match=r"limit=-1\.0"):
        draw(fine, fine, limit=-1.0)
    with pytest.raises(InputError, match="sepia"):
        draw(fine, fine, theme="sepia")
