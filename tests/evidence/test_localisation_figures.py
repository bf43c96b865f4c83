"""Localisation: both figures by hand, their edge cases, and the controls."""

import math

import pytest
import torch

from respondcam.errors import InputError
from respondcam.evidence.controls import centred, uniform
from respondcam.evidence.localisation import Localisation, localise, summarise_localisation


def test_only_positive_values_count() -> None:
    maps = torch.tensor([[[1.0, 2.0], [-5.0, 1.0]], [[4.0, 0.0], [0.0, -1.0]]])
    masks = torch.tensor([[[True, False], [True, False]], [[True, True], [False, False]]])
    assert localise(maps, masks) == [Localisation(0.25, 0.0), Localisation(1.0, 1.0)]


def test_a_map_without_positive_values_has_no_mass() -> None:
    (found,) = localise(torch.tensor([[-1.0, -2.0]]), torch.tensor([[True, False]]))
    assert math.isnan(found.mass)
    assert found.pointing == 0


def test_ties_point_in_part() -> None:
    maps, masks = torch.tensor([[2.0, 2.0, 1.0]]), torch.tensor([[True, False, True]])
    assert localise(maps, masks)[0].pointing == 0.5


def test_scale_does_not_matter() -> None:
    maps, masks = torch.randn(3, 4, 4), torch.rand(3, 4, 4) > 0.5
    masks[:, 0, 0] = True
    for one, other in zip(localise(maps, masks), localise(1e6 * maps, masks), strict=True):
        assert one.mass == pytest.approx(other.mass)
        assert one.pointing == other.pointing


def test_the_uniform_control_is_the_share_of_the_mask() -> None:
    masks = torch.zeros(2, 4, 5, dtype=torch.bool)
    masks[0, 0] = masks[1, :2] = True
    found = localise(uniform(masks), masks)
    assert [one.mass for one in found] == pytest.approx([0.25, 0.5])
    assert [one.pointing for one in found] == pytest.approx([0.25, 0.5])


def test_the_centred_control_finds_what_is_in_the_middle() -> None:
    masks = torch.zeros(2, 9, 9, 9, dtype=torch.bool)
    masks[0, 3:6, 3:6, 3:6] = masks[1, :2, :2, :2] = True
    middle, corner = localise(centred(masks), masks)
    assert middle.pointing == 1
    assert corner.pointing == 0
    assert middle.mass > 0.4 > 0.01 > corner.mass


def test_summary_counts_maps_without_positive_values() -> None:
    found = [Localisation(0.2, 1.0), Localisation(0.6, 0.0), Localisation(math.nan, 0.0)]
    summary = summarise_localisation(found)
    assert (summary.images, summary.without_positive) == (3, 1)
    assert summary.mass == pytest.approx(0.4)
    assert summary.mass_std == pytest.approx(0.2)
    assert summary.pointing == pytest.approx(1 / 3)
    assert math.isnan(summarise_localisation([Localisation(math.nan, 0.0)]).mass)


def test_what_cannot_be_compared_is_refused() -> None:
    with pytest.raises(InputError, match="do not match"):
        localise(torch.ones(1, 2), torch.ones(1, 3, dtype=torch.bool))
    with pytest.raises(InputError, match="mask is empty"):
        localise(torch.ones(1, 2), torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(InputError, match="nothing to summarise"):
        summarise_localisation([])
