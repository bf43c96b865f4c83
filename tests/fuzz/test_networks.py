"""Random small networks keep every promise; `tests.fuzz.networks` draws thousands of them."""

import pytest
from tests.fuzz import networks

import respondcam as rc


@pytest.mark.parametrize("seed", range(30))
def test_every_promise_holds(seed):
    assert networks.violations(seed) == []


def test_a_wrong_map_is_noticed(monkeypatch):
    monkeypatch.setattr(
        rc.RespondCAM, "map", lambda self, activation, gradient: (activation * gradient).sum(1)
    )
    found = [fault for seed in range(5) for fault in networks.violations(seed)]
    assert any("differs from full autograd" in fault for fault in found)


def test_a_wrong_place_is_noticed(monkeypatch):
    right = networks.draw

    def shifted(seed):
        model, layer, drawn, image, linear = right(seed)
        drawn.offset[0] += 0.5
        return model, layer, drawn, image, linear

    monkeypatch.setattr(networks, "draw", shifted)
    assert any("grid" in fault for fault in networks.violations(0))


def test_a_changed_model_is_noticed(monkeypatch):
    called = rc.RespondCAM.__call__

    def careless(self, *args, **kwargs):
        self.model.train(not self.model.training)
        return called(self, *args, **kwargs)

    monkeypatch.setattr(rc.RespondCAM, "__call__", careless)
    assert "the model was changed" in networks.violations(0)
