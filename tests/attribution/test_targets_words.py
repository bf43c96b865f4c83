"""Targets in words: each is the target that its words stand for, and nonsense is told apart."""

import numpy as np
import pytest
import torch

from respondcam.attribution import targets
from respondcam.attribution.targets import evaluate
from respondcam.attribution.targets.words import parse_target, read_on_grid
from respondcam.errors import InputError
from respondcam.network.preparation import Prepared, whole
from respondcam.volume import Volume, write_volume

SHAPE = (4, 5, 6)
OUTPUT = torch.randn(1, 4, *SHAPE, generator=torch.Generator().manual_seed(3))
CLASSES = torch.randn(2, 4, generator=torch.Generator().manual_seed(4))
AFFINE = np.diag([2.0, 2.0, 3.0, 1.0])
IMAGE = Volume(np.zeros(SHAPE), AFFINE, "mm")
NAMES = ("background", "liver", "lesion")


def prepared(crop=(1, 0, 2), pad=1) -> Prepared:
    """The image less its first sections, rows and columns, inside a border of zeros."""
    shape = tuple(n - c for n, c in zip(SHAPE, crop, strict=True))
    affine = AFFINE.copy()
    affine[:3, 3] = IMAGE.world(np.array(crop) - pad)
    seen = Volume(np.zeros([n + 2 * pad for n in shape]), affine, "mm")
    inside = tuple(slice(pad, pad + n) for n in shape)
    return Prepared(seen, IMAGE, (inside[0], inside[1], inside[2]), whole(seen.shape))


def same(found, expected, output=OUTPUT) -> None:
    """Two targets give the same scores under the same names."""
    one, other = evaluate(found, output), evaluate(expected, output)
    torch.testing.assert_close(one.values, other.values)
    assert one.labels == other.labels


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("predicted", "predicted"),
        ("all", "all"),
        ("value", "value"),
        ("2", 2),
        ("class:2", 2),
        ("lesion", 2),
        ("class:lesion", 2),
    ],
)
def test_what_needs_no_target_of_its_own(text, expected):
    assert parse_target(text, NAMES) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0, lesion", targets.classes([0, 2])),
        ("contrast:lesion,0", targets.contrast(2, 0)),
        ("contrast:1", targets.contrast(1)),
        ("probability:3", targets.probability(3)),
        ("log-probability:liver", targets.log_probability(1)),
    ],
)
def test_targets_of_whole_outputs(text, expected):
    same(parse_target(text, NAMES), expected, CLASSES)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("box:0,1,2-2,3,5@2", targets.box((0, 1, 2), (2, 3, 5), 2)),
        ("box:0,1,2-2,3,5", targets.box((0, 1, 2), (2, 3, 5), 1)),
        ("voxel:3, 4,5@lesion", targets.voxel((3, 4, 5), 2)),
        ("component:largest@2", targets.component(2)),
    ],
)
def test_targets_of_dense_outputs(text, expected):
    same(parse_target(text, NAMES), expected)


def test_a_part_of_a_class_by_a_voxel_in_it():
    number = 2
    at = (OUTPUT[0].argmax(dim=0) == number).nonzero()[0].tolist()
    text = f"component:{','.join(map(str, at))}@{number}"
    same(parse_target(text), targets.component(number, at))
    same(parse_target(text, overlapping=True), targets.alone(number, targets.component(1, at)))


def test_classes_that_may_overlap():
    for text in ("predicted", "all"):
        same(parse_target(text, overlapping=True), targets.overlapping(text))
    same(parse_target("0,lesion", NAMES, overlapping=True), targets.overlapping([0, 2]))
    assert parse_target("value", overlapping=True) == "value"
    largest = parse_target("component:largest@2", overlapping=True)
    same(largest, targets.alone(2, targets.component(1)))


def test_a_network_that_sees_x_first():
    turned = OUTPUT.permute(0, 1, 4, 3, 2)
    for text, expected in (
        ("voxel:3,1,2@2", targets.voxel((2, 1, 3), 2)),
        ("box:0,1,2-2,3,5@2", targets.box((2, 1, 0), (5, 3, 2), 2)),
    ):
        same(parse_target(text, turned=True), expected, turned)


DETECTED = {
    "boxes": torch.tensor([[0.0, 0, 0, 4, 4, 4], [5.0, 5, 5, 9, 9, 9], [0.0, 0, 0, 4, 4, 5]]),
    "scores": torch.tensor([0.9, 0.8, 0.7]),
    "labels": torch.tensor([1, 2, 2]),
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("detection:best", targets.detection()),
        ("detection:best@2", targets.detection(2)),
        ("detection:0,0,0-4,4,4.5@2", targets.detection(2, near=[0, 0, 0, 4, 4, 4.5])),
    ],
)
def test_boxes_of_detectors(text, expected):
    same(parse_target(text), expected, [DETECTED])


def written(tmp_path, values, affine=AFFINE, unit="mm") -> str:
    write_volume(tmp_path / "mask.nii.gz", Volume(values.astype(np.float32), affine, unit))
    return str(tmp_path / "mask.nii.gz")


def test_masks_and_label_maps(tmp_path):
    inside = np.zeros(SHAPE)
    inside[1:3, 2, 4] = 5  # a mask is whatever is not zero
    path = written(tmp_path, inside)
    same(parse_target(f"mask:{path}@3", image=IMAGE), targets.mask(inside != 0, 3))
    flipped = OUTPUT.permute(0, 1, 4, 3, 2)
    same(parse_target(f"mask:{path}", turned=True), targets.mask(inside.T != 0, 1), flipped)
    inside[0, 0, 0] = 3  # now there are several: the class counts
    path = written(tmp_path, inside)
    same(parse_target(f"mask:{path}@3"), targets.mask(inside == 3, 3))
    with pytest.raises(InputError, match="is empty: no voxel has the label 2"):
        parse_target(f"mask:{path}@2")
    with pytest.raises(InputError, match=r"mask\.nii\.gz' is empty\.$"):
        parse_target(f"mask:{written(tmp_path, np.zeros(SHAPE))}@2")


def test_masks_of_another_image(tmp_path):
    with pytest.raises(InputError, match=r"has \(4, 5, 7\) voxels.*the image \(4, 5, 6\)"):
        parse_target(f"mask:{written(tmp_path, np.ones((4, 5, 7)))}", image=IMAGE)
    elsewhere = AFFINE + 0.5 * np.eye(4, k=3)
    path = written(tmp_path, np.ones(SHAPE), elsewhere)
    with pytest.raises(InputError, match="lies elsewhere in the world"):
        parse_target(f"mask:{path}", image=IMAGE)
    # where one of the two says nothing of the world, the shape must do
    assert parse_target(f"mask:{path}", image=Volume(np.zeros(SHAPE))) is not None
    write_volume(tmp_path / "two.nii.gz", Volume(np.ones((2, *SHAPE)), AFFINE, "mm"))
    with pytest.raises(InputError, match=r"The label map .*two\.nii\.gz' has 2 channels"):
        read_on_grid(tmp_path / "two.nii.gz", IMAGE, "label map")


# ------------------------------------------------------------------ behind a preprocessing


def test_places_are_carried_into_the_grid_that_the_network_sees(tmp_path):
    seen = prepared()
    assert seen.grid.shape == (3, 5, 4)
    output = OUTPUT[..., :3, :5, :4]
    found = evaluate(parse_target("voxel:2,1,5@2", prepared=seen), output)
    assert float(found.values) == float(output[0, 2, 1, 1, 3])
    assert found.labels == ("class 2 at 2, 1, 5",)  # as it was typed
    found = evaluate(parse_target("box:1,0,2-3,2,4@2", prepared=seen), output)
    assert float(found.values) == pytest.approx(float(output[0, 2, 0:2, 0:2, 0:2].sum()), rel=1e-5)
    assert found.labels == ("class 2 in the box 1, 0, 2 to 3, 2, 4",)
    inside = np.zeros(SHAPE)
    inside[3, 4, 2] = 1
    found = evaluate(parse_target(f"mask:{written(tmp_path, inside)}@3", prepared=seen), output)
    assert float(found.values) == float(output[0, 3, 2, 4, 0])
    at = (output[0].argmax(dim=0) == 2).nonzero()[0] + torch.tensor([1, 0, 2])
    text = ",".join(map(str, at.tolist()))
    found = evaluate(parse_target(f"component:{text}@2", prepared=seen), output)
    assert found.labels == (f"class 2, part at {', '.join(text.split(','))}",)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("voxel:0,1,5@2", "outside the part of the volume that the network sees"),
        ("box:0,0,0-1,5,2@2", "outside the part"),
        ("voxel:4,0,0", r"not inside the volume's \(4, 5, 6\) voxels"),
        ("voxel:1,2", "not inside"),
        ("box:1,0,2-5,2,4", "not inside"),
        ("box:1,0,2-1,2,4", "is empty or"),
    ],
)
def test_places_that_the_network_does_not_see(text, words):
    with pytest.raises(InputError, match=rf"--target is '{text}', which .*{words}"):
        parse_target(text, prepared=prepared())


def test_a_mask_that_the_network_does_not_see(tmp_path):
    inside = np.zeros(SHAPE)
    inside[0, 4, 2] = 1
    with pytest.raises(InputError, match="outside the part"):
        parse_target(f"mask:{written(tmp_path, inside)}", prepared=prepared())


# ------------------------------------------------------------------ nonsense


@pytest.mark.parametrize(
    "text",
    [
        "", "nonsense", "class:", "class:x", "1,x", "contrast:1,2,3", "contrast:1,x", "box:1,2,3",
        "box:1,2,3-4,5,6-7,8,9", "box:1,2-3,x", "voxel:1,-2,3", "voxel:1,2,3@x", "component:x",
        "probability:x", "detection:1,2", "detection:1,2-x,3", "detection:best@x",
    ],
)  # fmt: skip
def test_nonsense_lists_what_is_accepted_and_where_it_was_typed(text):
    with pytest.raises(InputError) as error:
        parse_target(text, NAMES, option="The box of the page")
    told = str(error.value)
    names = "the name of a class (background, liver, lesion)"  # first: it is what users mean
    assert told.startswith(f"The box of the page is {text!r}. Accepted: {names}, predicted, all, ")
    assert told.endswith("axes).")


def test_a_name_that_looks_like_a_kind_is_a_name():
    names = ["mask:x", "class:0", "3"]
    assert [parse_target(name, names) for name in names] == [0, 1, 2]


@pytest.mark.parametrize(
    "text", ["lesion", "0,lesion", "contrast:lesion,0", "probability:lesion", "voxel:1,2,3@lesion"]
)
def test_a_name_for_a_network_without_names_says_how_to_give_them(text):
    with pytest.raises(InputError, match=r"no class names: give --classes, or return \(network"):
        parse_target(text)
    assert parse_target(text, ["healthy", "lesion"]) is not None


@pytest.mark.parametrize("text", ["box:1,2-3@x1,", "nonsense:3", "voxel:a,b@1", ""])
def test_other_mistakes_do_not_speak_of_names(text):
    with pytest.raises(InputError) as caught:
        parse_target(text)
    assert ("no class names" in str(caught.value)) == text.startswith("box")
