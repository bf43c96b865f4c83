"""Shapes and types are watched while the tests run: what is there to be found, is found."""

from types import ModuleType

import jaxtyping
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from tests.watching import watch

from respondcam.attribution.placing import interpolate
from respondcam.network.grid import LayerGrid
from respondcam.network.layout.rules import spatial

SHAPED = """
from dataclasses import dataclass
from jaxtyping import Float
from torch import Tensor

def both(x: Float[Tensor, "n"], y: Float[Tensor, "n"]) -> int:
    return len(x)

class Box:
    @classmethod
    def made(cls, x: Float[Tensor, "n"], y: Float[Tensor, "n"]) -> int:
        return len(x)

    @property
    def size(self) -> str:
        return 3

@dataclass
class Pair:
    x: Float[Tensor, "n"]
    y: Float[Tensor, "n"]
"""
PLAIN = """
class Box:
    def put(self, count: int, where: "NowhereKnown") -> int:
        return count

def put(count: int) -> "Box":
    return count
"""


def watched(source: str) -> ModuleType:
    module = ModuleType("watched")
    exec(source, vars(module))
    watch(module)
    return module


def test_shapes_that_do_not_agree_are_found() -> None:
    module = watched(SHAPED)
    same, other = torch.zeros(3), torch.zeros(4)
    for function in (module.both, module.Box.made):
        assert function(same, same) == 3
        with pytest.raises(jaxtyping.TypeCheckError):
            function(same, other)
    module.Pair(same, same)
    with pytest.raises(jaxtyping.TypeCheckError):
        module.Pair(same, other)
    with pytest.raises(jaxtyping.TypeCheckError):
        module.Box().size  # noqa: B018


def test_other_types_are_found_but_for_those_that_only_type_checkers_know() -> None:
    module = watched(PLAIN)
    assert module.Box().put(1, "anywhere") == 1
    with pytest.raises(BeartypeCallHintViolation):
        module.Box().put("1", "anywhere")
    with pytest.raises(BeartypeCallHintViolation):
        module.put(1)


def test_the_package_is_watched() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        spatial(1, "three")  # type: ignore[arg-type]
    with pytest.raises(jaxtyping.TypeCheckError):
        interpolate(torch.zeros(3), LayerGrid((1.0,), (0.0,), (3,), (3,), (0.0,), "even"))
