"""What a notebook is given: well-formed, escaped, with a picture that opens."""

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from respondcam.attribution import Explanation
from respondcam.errors import InputError
from respondcam.network.grid import LayerGrid
from respondcam.show import explanation_html, table_html, volume_html
from respondcam.volume import Volume

EVIL = '"><script>alert(1)</script><img src=x onerror=alert(2)>'


class Page(HTMLParser):
    """Tags, attributes and text; fails on tags that are not closed in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict]] = []
        self.words: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag != "img":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def names(self) -> set[str]:
        return {tag for tag, _ in self.tags}

    def pictures(self) -> list[Image.Image]:
        sources = [attrs["src"] for tag, attrs in self.tags if tag == "img"]
        prefix = "data:image/png;base64,"
        assert all(source.startswith(prefix) for source in sources)  # nothing from a network
        return [Image.open(io.BytesIO(base64.b64decode(s.removeprefix(prefix)))) for s in sources]


def explanation(**changes) -> Explanation:
    torch.manual_seed(0)
    parts = {
        "maps": torch.randn(2, 3, 4, 4, 4),
        "scores": torch.tensor([[1.5, -2.0, 0.25], [3.0, 0.0, 1e-6]]),
        "targets": ("nucleus", EVIL, "c"),
        "layer": f"encoder.{EVIL}",
        "method": "respond",
        "grid": LayerGrid((4.0,) * 3, (1.5,) * 3, (4,) * 3, (16,) * 3, (0.0,) * 3, "layout"),
        "source": Volume(np.random.default_rng(0).random((16, 16, 16)), source=Path(EVIL[:20])),
    }
    return Explanation(**{**parts, **changes})


def test_a_volume_shows_itself_in_a_notebook() -> None:
    html = Volume(np.arange(24.0).reshape(2, 3, 4), unit="mm")._repr_html_()
    assert "<img" in html
    assert "RAS" in html


def test_volume_shows_a_picture_and_its_facts():
    affine = np.diag([-0.5, 0.5, 2.0, 1.0])
    voxels = np.linspace(-1, 3, 2 * 3 * 4 * 5).reshape(2, 3, 4, 5)
    page = Page(volume_html(Volume(voxels, affine, "mm", source=Path("/data/scan.nii.gz"))))
    words = "|".join(page.words)
    for fact in ("/data/scan.nii.gz", "3 × 4 × 5", "channels|2", "2 × 0.5 × 0.5 mm", "LAS"):
        assert fact in words
    assert "−1.000 to 3.000" in words
    (picture,) = page.pictures()
    assert picture.width > 400
    assert page.names() == {"div", "img", "table", "tbody", "tr", "td"}


def test_volume_without_a_unit_says_so():
    assert "not known" in Page(volume_html(Volume(np.zeros((3, 3, 3))))).words


def test_volume_that_cannot_be_drawn_says_why():
    page = Page(volume_html(Volume(np.full((3, 3, 3), np.nan))))
    assert not page.pictures()
    assert any("27 voxels that are NaN" in word for word in page.words)


def test_explanation_shows_a_picture_and_all_scores():
    one = explanation(empty={(1, 2): "no gradient"})
    page = Page(explanation_html(one))
    assert len(page.pictures()) == 1
    words = "|".join(page.words)
    sums = one.maps.double().flatten(2).sum(2)
    for number in ("1.500", "−2.000", "0.2500", "1×10⁻⁶", f"{float(sums[0, 0]):.3f}"):
        assert number.replace("-", "−") in words
    assert "no gradient" in words
    assert "4 × 4 × 4 voxels" in words


def test_showing_does_not_run_the_network():
    def baseline():
        raise AssertionError("the network was run")

    page = Page(explanation_html(explanation(baseline=baseline)))
    assert "use explanation.account" in page.words


def test_long_tables_are_cut_and_say_so():
    many = explanation(
        maps=torch.zeros(1, 50, 4, 4, 4),
        scores=torch.zeros(1, 50),
        targets=tuple(f"class {number}" for number in range(50)),
    )
    page = Page(explanation_html(many))
    assert "and 30 more" in page.words
    assert "class 19" in page.words
    assert "class 20" not in page.words


@pytest.mark.parametrize("show", ["table", "volume", "explanation"])
def test_markup_in_names_is_shown_never_executed(show):
    text = {
        "table": lambda: table_html([[EVIL, 1]], [EVIL, "n"]),
        "volume": lambda: volume_html(Volume(np.zeros((3, 3, 3)), source=Path(EVIL))),
        "explanation": lambda: explanation_html(
            explanation(layer_reason=EVIL, empty={(0, 0): EVIL})
        ),
    }[show]()
    page = Page(text)
    assert "script" not in page.names()
    assert not [attrs for _, attrs in page.tags if any(name.startswith("on") for name in attrs)]
    assert all(attrs.get("src", "data:").startswith("data:") for _, attrs in page.tags)
    assert "script" in "".join(page.words)  # it is shown


def test_table_aligns_numbers_of_every_kind():
    row = ["a", 3, np.int64(4), 0.5, np.float32(0.25), True, None]
    text = table_html([row], list("abcdefg"))
    cells = re.findall(r'<td style="([^"]*)">([^<]*)', text)
    assert [cell for _, cell in cells] == ["a", "3", "4", "0.5000", "0.2500", "True", "None"]
    assert ["right" in style for style, _ in cells] == [False, True, True, True, True, False, False]
    assert text.count("<th ") == 7


def test_table_with_a_short_row_is_refused():
    with pytest.raises(InputError, match="1 cells and the table 2"):
        table_html([["a"]], ["x", "y"])
