"""What a caller can get wrong: each is refused in words, also where no types are checked."""

import inspect
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam.attribution.explainer import Explainer
from respondcam.attribution.outputs import batched, output_part, score_tensor
from respondcam.attribution.prepared import explain_prepared
from respondcam.errors import EmptyMapWarning, InputError, TargetError


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()


@pytest.mark.parametrize("wrong", [{"align": "here"}, {"precision": "fp8"}])
def test_options_of_explainers(wrong):
    unchecked = inspect.unwrap(Explainer.__init__)  # the tests' types would refuse it first
    with pytest.raises(InputError, match="is neither"):
        unchecked(rc.RespondCAM.__new__(rc.RespondCAM), network(), **wrong)


def test_an_explanation_without_its_model_has_no_account():
    explanation = rc.RespondCAM(network(), layer="1")(torch.randn(1, 1, 8), target=0)
    with pytest.raises(InputError, match="has no account"):
        _ = replace(explanation, baseline=None).account


def test_resolutions_of_a_map():
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.ReLU(), nn.Flatten(), nn.Linear(16, 2))
    explanation = rc.RespondCAM(model, layer="1")(torch.ones(1, 1, 2, 2, 2), target=0)
    with pytest.raises(InputError, match="neither 'layer' nor 'input'"):
        inspect.unwrap(type(explanation).volume)(explanation, resolution="finest")


@dataclass
class Output:
    scores: Tensor


def test_parts_of_an_output():
    one, two = torch.zeros(1), torch.ones(1)
    assert output_part("seg")({"seg": one, "aux": two}) is one
    assert output_part("scores")(Output(two)) is two
    assert output_part("1")([one, two]) is two
    for output in ({"aux": one}, (one,), one):
        with pytest.raises(TargetError, match=r"--output '3' is no part of the network's output"):
            output_part("3")(output)


def test_outputs_that_are_no_scores():
    with pytest.raises(TargetError, match="gave str, not a tensor"):
        inspect.unwrap(score_tensor)(torch.zeros(1), lambda output: "text")
    with pytest.raises(TargetError, match="a single number"):
        batched(torch.zeros(()))


def test_explaining_with_nothing():
    with pytest.raises(InputError, match="at least one explainer"):
        inspect.unwrap(explain_prepared)([], None, 0)


@pytest.mark.parametrize("kind", [nn.ReLU, nn.Sigmoid])
def test_a_map_that_is_empty_says_why(kind):
    """A ReLU that is closed, and a sigmoid that is saturated."""
    model = nn.Sequential(nn.Conv1d(1, 1, 1), kind(), nn.Flatten(), nn.Linear(8, 1))
    with torch.no_grad():
        model[0].weight.fill_(0.0)
        model[0].bias.fill_(-1e4)
    layer = "1" if kind is nn.ReLU else "0"
    with pytest.warns(EmptyMapWarning, match="is zero everywhere"):
        explanation = rc.RespondCAM(model, layer=layer)(torch.randn(1, 1, 8), target=0)
    assert "is zero everywhere" in explanation.empty[0, 0]
