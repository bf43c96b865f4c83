"""Shapes and types are watched while the tests run: what is there to be found, is found."""

from types import SimpleNamespace
from typing import Any

import jaxtyping
import pytest
import torch
from beartype.roar import BeartypeCallHintViolation
from tests.watching import watched

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
from contextlib import contextmanager
from dataclasses import dataclass
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nowhere import Place

class Box:
    def put(self, count: int, where: "Place | None") -> int:
        return count

@dataclass(frozen=True)
class Counted:
    count: int

@contextmanager
def opened(count: int) -> Iterator[int]:
    yield count

TABLE = [opened]

def put(count: int) -> "Box":
    return count
"""


def module(source: str) -> SimpleNamespace:
    names: dict[str, Any] = {"__name__": "nobody"}
    exec(compile(watched(source), "nowhere", "exec"), names)
    return SimpleNamespace(**names)


def test_shapes_that_do_not_agree_are_found() -> None:
    made = module(SHAPED)
    same, other = torch.zeros(3), torch.zeros(4)
    for function in (made.both, made.Box.made):
        assert function(same, same) == 3
        with pytest.raises(jaxtyping.TypeCheckError):
            function(same, other)
    made.Pair(same, same)
    with pytest.raises(jaxtyping.TypeCheckError):
        made.Pair(same, other)
    with pytest.raises(jaxtyping.TypeCheckError):
        made.Box().size  # noqa: B018


def test_other_types_are_found_but_for_those_that_only_type_checkers_know() -> None:
    made = module(PLAIN)
    assert made.Box().put(1, "anywhere") == 1
    with pytest.raises(BeartypeCallHintViolation):
        made.Box().put("1", "anywhere")
    with pytest.raises(BeartypeCallHintViolation):
        made.put(1)
    with made.opened(1) as count:
        assert made.Counted(count).count == 1
    with pytest.raises(BeartypeCallHintViolation):
        made.Counted("1")
    with pytest.raises(BeartypeCallHintViolation), made.opened("1"):
        pass
    assert made.TABLE[0] is made.opened  # the same for whoever compares


def test_the_package_is_watched() -> None:
    with pytest.raises(BeartypeCallHintViolation):
        spatial(1, "three")  # type: ignore[arg-type]
    with pytest.raises(jaxtyping.TypeCheckError):
        interpolate(torch.zeros(3), LayerGrid((1.0,), (0.0,), (3,), (3,), (0.0,), "even"))
