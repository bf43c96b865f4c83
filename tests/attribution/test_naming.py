"""Names of classes in every kind of label, and counts that do not fit."""

import inspect
import warnings

import pytest
import torch
from torch import nn

import respondcam as rc
from respondcam.attribution.naming import with_names, wrong_count
from respondcam.errors import EmptyMapWarning, InputError, RespondCAMWarning

NAMES = ["groel", "p97", "ribosome", "ferritin"]


def network(classes: int = 4, dense: bool = False) -> nn.Module:
    """With positive weights, so that no map is empty."""
    torch.manual_seed(0)
    first = [nn.Conv3d(1, 6, 3, padding=1), nn.ReLU()]
    last = [nn.Conv3d(6, classes, 1)]
    if not dense:
        last = [nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(6, classes)]
    model = nn.Sequential(*first, *last)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.abs_()
    return model


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (1, "p97"),
        (rc.targets.contrast(0, 3), "groel, not ferritin"),
        (rc.targets.probability(3), "probability of ferritin"),
        (rc.targets.log_probability(2), "log-probability of ribosome"),
    ],
)
def test_labels_of_whole_outputs(target, label):
    explanation = rc.RespondCAM(network(), layer="1")(torch.rand(1, 1, 6, 6, 6), target=target)
    assert explanation.named(NAMES).targets == (label,)


@pytest.mark.parametrize(
    ("target", "label"),
    [
        (rc.targets.voxel([1, 2, 3], 2), "ribosome at 1, 2, 3"),
        (rc.targets.box([0, 0, 0], [2, 2, 2], 1), "p97 in the box 0, 0, 0 to 2, 2, 2"),
    ],
)
def test_labels_of_dense_outputs(target, label):
    model = network(dense=True)
    explanation = rc.RespondCAM(model, layer="1")(torch.rand(1, 1, 6, 6, 6), target=target)
    assert explanation.named(NAMES).targets == (label,)


def test_why_a_map_is_empty_is_said_with_names():
    model = network(dense=True)
    with torch.no_grad():
        model[2].bias[2] = -1e6
    with pytest.warns(EmptyMapWarning):
        explanation = rc.RespondCAM(model, layer="1")(torch.rand(1, 1, 4, 4, 4), target=2)
    assert explanation.named(NAMES).empty[0, 0] == "ribosome is predicted nowhere in sample 0"


def test_names_that_look_like_numbers_are_put_in_once():
    assert with_names("class 0, not class 1", ["class 1", "class 0"]) == "class 1, not class 0"
    assert with_names("class 12 and subclass 1", ["a", "b"]) == "class 12 and subclass 1"


@pytest.mark.parametrize("method", rc.METHODS)
def test_every_method_notices_names_that_are_too_few(method):
    if method in ("integrated-gradients", "occlusion", "guided-backprop"):
        pytest.importorskip("captum")
        layer = None
    else:
        layer = ["0", "1"] if method == "refine" else "1"
    model = network()
    explanation = rc.METHODS[method](model, layer)(torch.rand(1, 1, 6, 6, 6), target=1)
    assert explanation.score_count == 4
    with pytest.warns(RespondCAMWarning, match=r"3 names of classes \(a, b, c\).*gives 4 scores"):
        named = explanation.named(["a", "b", "c"])
    assert named.targets == ("b",)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert explanation.named(NAMES).targets == ("p97",)
        assert explanation.named([]).targets == ("class 1",)


def test_a_single_score_has_one_name_or_two():
    assert not wrong_count(["lesion"], 1)
    assert not wrong_count(["healthy", "lesion"], 1)
    assert "gives 1 score" in wrong_count(["a", "b", "c"], 1)
    assert "is 1 name of a class (a)" in wrong_count(["a"], 2)
    assert not wrong_count(["a", "b", "c"], None)


def test_figures_take_the_names_of_classes() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv3d(1, 2, 3), nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(2, 3)
    )
    found = rc.RespondCAM(model, "0")(torch.rand(1, 1, 6, 6, 6), target="all").named(
        ["a", "b", "c"]
    )
    texts = [text.get_text() for text in found.plot(target="b").texts]
    assert "b" in texts
    with pytest.raises(InputError, match=r"no map of target 'd'\. There are: a"):
        found.plot(target="d")
    unchecked = inspect.unwrap(type(found.account).line)  # without the type checks of the tests
    with pytest.raises(InputError, match="takes the number of a target, not 'b'"):
        unchecked(found.account, target="b")
