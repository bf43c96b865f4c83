"""What a caller can get wrong: each is refused in words, also where no types are checked."""

import inspect
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor, nn

import respondcam as rc
from respondcam import targets
from respondcam.attribution.explainer import Explainer
from respondcam.attribution.outputs import batched, output_part, score_tensor
from respondcam.attribution.prepared import explain_prepared
from respondcam.errors import EmptyMapWarning, InputError, LayerError, ModelError, TargetError
from respondcam.network.sources import LoadedModel


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(12, 2)).eval()


@pytest.mark.parametrize("wrong", [{"align": "here"}, {"precision": "fp8"}])
def test_options_of_explainers(wrong):
    unchecked = inspect.unwrap(Explainer.__init__)  # the tests' types would refuse it first
    with pytest.raises(InputError, match="is neither"):
        unchecked(rc.RespondCAM.__new__(rc.RespondCAM), network(), **wrong)


def test_what_is_no_network():
    unchecked = inspect.unwrap(Explainer.__init__)
    exported = type("ExportedProgram", (), {})()
    for given, words in (
        (nn.Sequential, r"not type\. Build the network first"),
        (LoadedModel(network(), "demo"), r"not LoadedModel\. Give its \.module;.*explain_prepared"),
        (exported, r"not ExportedProgram\. Give torch\.export\.unflatten\(program\)"),
    ):
        with pytest.raises(InputError, match=words):
            unchecked(rc.RespondCAM.__new__(rc.RespondCAM), given)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_no_numbers_are_named(value):
    net = network()
    assert isinstance(net[0], nn.Conv1d)
    net[0].weight.data[1, 0, 2] = value
    net.register_buffer("mask", torch.tensor([0.0, float("-inf")]))  # as attentions have it
    with pytest.raises(TargetError, match=r"weights of the model are: 0\.weight \(1 of 6\)\. No"):
        rc.RespondCAM(net, layer="1")(torch.randn(1, 1, 8), target=0)
    whole, x = network(), torch.randn(1, 1, 8)
    x[0, 0, 3] = value
    with pytest.raises(TargetError, match="Check that the input has no voxels that are NaN"):
        rc.RespondCAM(whole, layer="1")(x, target=0)


def test_ways_of_placing():
    explanation = rc.RespondCAM(network(), layer="1")(torch.randn(1, 1, 8), target=0)
    with pytest.raises(InputError, match="keep='peak' is neither 'sum' nor 'value'"):
        inspect.unwrap(type(explanation).place)(explanation, keep="peak")


def test_numbers_of_a_regression():
    with pytest.raises(TargetError, match=r"value\(2\): the output has 2 numbers .* 0 to 1"):
        rc.RespondCAM(network(), layer="1")(torch.randn(1, 1, 8), target=targets.value(2))
    with pytest.raises(TargetError, match="one number per sample, but the output is"):
        targets.value()(torch.zeros(1, 2, 3, 3))


class Bag(nn.Module):
    """One score for all samples, or one for two of them."""

    def __init__(self, together: int | None) -> None:
        super().__init__()
        self.net, self.together = network(), together

    def forward(self, x: Tensor) -> Tensor:
        scores = self.net(x)
        return scores.unflatten(0, (-1, self.together or len(x))).sum(dim=1)


def test_samples_that_share_a_score():
    x = torch.randn(4, 1, 8)
    explanation = rc.RespondCAM(Bag(None), layer="net.1")(x, target=1)
    assert explanation.maps.shape[:2] == explanation.scores.shape == (4, 1)
    account = explanation.account  # all maps together explain the one score
    together = explanation.maps.double().sum().expand(4, 1)
    torch.testing.assert_close(account.mapped, together)
    torch.testing.assert_close(account.gap, torch.zeros(4, 1).double(), rtol=0, atol=1e-5)
    with pytest.raises(TargetError, match=r"scores have 2 rows, but the maps .* have 4 samples"):
        rc.RespondCAM(Bag(2), layer="net.1")(x, target=1)
    with pytest.raises(ModelError, match="samples influence each other"):
        rc.IntegratedRespondCAM(Bag(None), layer="net.1")(x, target=1)


def test_calls_of_a_layer_that_the_path_runs_through():
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.head = nn.Conv1d(1, 1, 1), nn.Linear(8, 2)

        def forward(self, x: Tensor) -> Tensor:
            return self.head(self.conv(self.conv(x)).flatten(1))

    x = torch.randn(1, 1, 8)
    explained = rc.IntegratedRespondCAM(Twice(), layer="conv#1")(x, target=1)
    assert explained.account.gap.abs() < 1e-5
    with pytest.raises(LayerError, match=r"called 2 times.*'conv#0' to 'conv#1'"):
        rc.IntegratedRespondCAM(Twice(), layer="conv")(x, target=1)
    with pytest.raises(LayerError, match="called 2 times"):
        rc.IntegratedRespondCAM(Twice(), layer="conv#2")(x, target=1)


def test_a_map_that_its_own_cut_leaves_empty_says_so():
    model = nn.Sequential(nn.Conv1d(1, 1, 1), nn.ReLU(), nn.Flatten(), nn.Linear(8, 1))
    with torch.no_grad():
        model[0].weight.fill_(1.0)
        model[3].weight.fill_(-1.0)
    with pytest.warns(EmptyMapWarning, match="leave nothing after this method's cut"):
        rc.RespondCAM(model, layer="1", relu=True)(1 + torch.rand(1, 1, 8), target="value")


def test_an_explanation_without_its_model_has_no_account():
    explanation = rc.RespondCAM(network(), layer="1")(torch.randn(1, 1, 8), target=0)
    with pytest.raises(InputError, match="has no account"):
        _ = replace(explanation, baseline=None).account


def test_resolutions_of_a_map():
    model = nn.Sequential(nn.Conv3d(1, 2, 1), nn.Flatten(), nn.Linear(16, 2))
    explanation = rc.RespondCAM(model, layer="0")(torch.ones(1, 1, 2, 2, 2), target=0)
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


@pytest.mark.parametrize(
    ("target", "words"),
    [
        ("contrast:0, 1", r"In Python this is respondcam.targets.contrast\(0, 1\)"),
        ("log-probability:1", r"respondcam.targets.log_probability\(1\)"),
        ("contrast:a,b", "'contrast' is a word of the command line"),
        ("lesion", r"given by its number: names.index\('lesion'\).*named\(names\)"),
    ],
)
def test_words_of_the_command_line_as_targets(target, words):
    with pytest.raises(TargetError, match=words):
        rc.RespondCAM(network())(torch.rand(1, 1, 8), target=target)


def test_the_name_of_a_file_as_an_input():
    with pytest.raises(InputError, match=r"respondcam.read_volume\('scan.nii.gz'\)"):
        rc.RespondCAM(network())("scan.nii.gz")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="Give a tensor"):
        rc.RespondCAM(network())(None)
