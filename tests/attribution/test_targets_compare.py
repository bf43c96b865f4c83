"""Contrasts, probabilities and similarities: values by hand, maps that follow, warnings."""

import pytest
import torch
from torch import Tensor, nn

from respondcam import RespondCAM, targets
from respondcam.attribution import Explanation
from respondcam.errors import RespondCAMWarning, TargetError


def network(outputs: int = 4) -> nn.Module:
    return nn.Sequential(
        nn.Conv3d(1, 6, 3, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool3d(1),
        nn.Flatten(),
        nn.Linear(6, outputs, bias=False),
    )


def explained(model: nn.Module, x: Tensor, target: object, layer: str = "1") -> Explanation:
    found = RespondCAM(model, layer=layer)(x, target=target)
    assert isinstance(found, Explanation)
    return found


def test_a_contrast_is_the_difference_of_two_maps() -> None:
    model, x = network(), torch.randn(2, 1, 6, 6, 6)
    both = explained(model, x, targets.contrast(3, 1))
    own, other = (explained(model, x, number) for number in (3, 1))
    torch.testing.assert_close(both.scores, own.scores - other.scores)
    torch.testing.assert_close(both.maps, own.maps - other.maps, rtol=1e-4, atol=1e-6)
    assert both.targets == ("class 3, not class 1",)
    assert both.account.gap.abs().max() < 1e-5


def test_the_next_class_is_each_samples_own() -> None:
    output = torch.tensor([[1.0, 5.0, 3.0, 0.0], [9.0, 2.0, 0.0, 4.0]])
    scores = targets.contrast(0)(output)
    assert isinstance(scores, targets.Scores)
    assert scores.values.tolist() == [[-4.0], [5.0]]
    assert scores.labels == ("class 0, not the next class",)
    # decided once: with the layer silenced it is still the same class
    assert scores.again is not None
    assert scores.again(torch.tensor([[0.0, 1, 2, 9], [0, 1, 2, 9]])).tolist() == [[-1], [-9]]


def test_a_contrast_in_a_segmentation_is_taken_where_the_class_is() -> None:
    output = torch.randn(2, 3, 4, 4)
    where = output.argmax(dim=1) == 2
    scores = targets.contrast(2, 0)(output)
    assert isinstance(scores, targets.Scores)
    expected = ((output[:, 2] - output[:, 0]) * where).flatten(1).sum(1)
    torch.testing.assert_close(scores.values[:, 0], expected)


def test_a_single_logit_has_two_sides() -> None:
    scores = targets.contrast(1, 0)(torch.tensor([[1.5], [-2.0]]))
    assert isinstance(scores, targets.Scores)
    assert scores.values.tolist() == [[3.0], [-4.0]]


def test_probabilities_are_those_of_softmax_and_sigmoid() -> None:
    output = torch.randn(3, 4)
    one, log = targets.probability(2)(output), targets.log_probability(2)(output)
    assert isinstance(one, targets.Scores)
    assert isinstance(log, targets.Scores)
    torch.testing.assert_close(one.values[:, 0], output.softmax(dim=1)[:, 2])
    torch.testing.assert_close(log.values, one.values.log())
    logit = torch.tensor([[0.3]])
    single = targets.probability(1)(logit)
    assert isinstance(single, targets.Scores)
    torch.testing.assert_close(single.values, logit.sigmoid())


@pytest.mark.parametrize("logit", [12.0, -12.0])
def test_a_saturated_probability_warns(logit: float) -> None:
    with pytest.warns(RespondCAMWarning, match="close to 0 or 1"):
        targets.probability(1)(torch.tensor([[0.0, logit]]))


def test_an_embeddings_similarity_is_explained() -> None:
    model, x = network(8), torch.rand(2, 1, 6, 6, 6)
    reference = torch.randn(8)
    found = explained(model, x, targets.similarity(reference))
    with torch.inference_mode():
        expected = torch.nn.functional.cosine_similarity(model(x), reference[None], dim=1)
    torch.testing.assert_close(found.scores[:, 0], expected)
    assert found.maps.abs().max() > 0
    each = targets.similarity(torch.randn(2, 8))(model(x))
    assert isinstance(each, targets.Scores)
    assert each.values.shape == (2, 1)


@pytest.mark.parametrize(
    ("make", "output", "message"),
    [
        (lambda: targets.contrast(1, 1), None, "two different classes"),
        (lambda: targets.contrast(7), torch.ones(1, 4), "out of range"),
        (lambda: targets.contrast(0, 4), torch.ones(1, 4), "out of range"),
        (lambda: targets.probability(4), torch.ones(1, 4), "out of range"),
        (lambda: targets.probability(0), torch.ones(1, 2, 3), "one decision per sample"),
        (lambda: targets.similarity(torch.ones(3)), torch.ones(1, 4), "does not fit"),
        (lambda: targets.similarity(torch.ones(3, 4)), torch.ones(2, 4), "does not fit"),
        (lambda: targets.similarity(torch.zeros(4)), torch.ones(1, 4), "is zero"),
    ],
)
def test_what_cannot_be_compared_is_refused(make, output, message) -> None:
    with pytest.raises(TargetError, match=message):
        make()(output)
