"""A TorchScript method as a list of steps in Python, with the same operators in the same order.

The graph is read once. Every value has a slot; a step reads slots and writes slots, and a slot is
emptied after its last use, so that a pass holds no more tensors than the program itself would.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch

from respondcam.errors import ModelError
from respondcam.network.torchscript.operators import operator_of

Slots = list[Any]
Step = Callable[[Slots], None]
_CALL = "respondcam::CallMethod"  # calls of modules are kept while calls of functions are inlined


@dataclass(frozen=True)
class Block:
    """Steps in order, each with the slots that nothing reads after it, and what comes out."""

    steps: tuple[tuple[Step, tuple[int, ...]], ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]

    def run(self, slots: Slots) -> list[Any]:
        """Run the steps on filled input slots."""
        for step, dead in self.steps:
            step(slots)
            for slot in dead:
                slots[slot] = None
        return [slots[slot] for slot in self.outputs]


@dataclass(frozen=True)
class Program:
    """One method, ready to run.

    Parameters
    ----------
    block
        Its steps.
    initial
        The slots at the beginning: constants are in their places.
    """

    block: Block
    initial: tuple[Any, ...]

    def run(self, *arguments: Any) -> Any:
        """Call the method with all its arguments, the module first."""
        slots = list(self.initial)
        for slot, value in zip(self.block.inputs, arguments, strict=True):
            slots[slot] = value
        del arguments  # or the input would live as long as the pass
        results = self.block.run(slots)
        return results[0] if len(results) == 1 else tuple(results)


def compiled(graph: torch.Graph) -> Program:
    """Read a method's graph, which stays as it is.

    Raises
    ------
    ModelError
        For operators that have no meaning in Python.

    Examples
    --------
    >>> graph = torch.parse_ir('''graph(%self : int, %x : Tensor):
    ...   %y : Tensor = aten::neg(%x)
    ...   return (%y)''')
    >>> compiled(graph).run(None, torch.ones(1))
    tensor([-1.])
    """
    reader = _Reader()
    block = reader.block(_prepared(graph))
    return Program(block, tuple(reader.initial))


def _prepared(graph: Any) -> Any:
    """Copy the graph and write out the functions that it calls, but not the modules."""
    graph = graph.copy()
    for node in graph.findAllNodes("prim::CallMethod", True):
        kept = graph.create(_CALL, list(node.inputs()), node.outputsSize())
        kept.s_("name", node.s("name"))
        kept.insertBefore(node)
        for old, new in zip(node.outputs(), kept.outputs(), strict=True):
            new.setType(old.type())
            old.replaceAllUsesWith(new)
        node.destroy()
    passes: Any = torch._C  # pyright: ignore[reportPrivateUsage]
    passes._jit_pass_inline(graph)
    return graph


class _Reader:
    """Gives values their slots, and turns nodes into steps."""

    def __init__(self) -> None:
        self.initial: list[Any] = []
        self._slots: dict[int, int] = {}

    def _slot(self, value: Any) -> int:
        number = value.unique()
        if number not in self._slots:
            self._slots[number] = len(self.initial)
            self.initial.append(None)
        return self._slots[number]

    def block(self, block: Any) -> Block:
        """Turn a graph or an inner block into steps."""
        inputs = tuple(self._slot(value) for value in block.inputs())
        nodes = [node for node in block.nodes() if not self._constant(node)]
        steps = [self._step(node) for node in nodes]
        outputs = tuple(self._slot(value) for value in block.outputs())
        own = {self._slot(value) for node in nodes for value in node.outputs()}
        dead = self._last_uses(nodes, (own | set(inputs)) - set(outputs))
        return Block(tuple(zip(steps, dead, strict=True)), inputs, outputs)

    def _constant(self, node: Any) -> bool:
        if node.kind() != "prim::Constant":
            return False
        slot = self._slot(node.output())
        if node.output().type().kind() != "FunctionType":  # its calls are written out
            self.initial[slot] = node.output().toIValue()
        return True

    def _last_uses(self, nodes: list[Any], own: set[int]) -> list[tuple[int, ...]]:
        """For every node the slots of this block that nothing after it reads."""
        seen: set[int] = set()
        found: list[tuple[int, ...]] = []
        for node in reversed(nodes):
            touched = {self._slot(value) for value in (*_read(node), *node.outputs())}
            dead = (touched & own) - seen
            seen |= touched
            found.append(tuple(sorted(dead)))
        return found[::-1]

    def _step(self, node: Any) -> Step:
        special = _SPECIAL.get(node.kind())
        if special is not None:
            return special(self, node)
        return _applied(operator_of(node), self._inputs(node), self._outputs(node))

    def _inputs(self, node: Any) -> tuple[int, ...]:
        return tuple(self._slot(value) for value in node.inputs())

    def _outputs(self, node: Any) -> tuple[int, ...]:
        return tuple(self._slot(value) for value in node.outputs())

    def call(self, node: Any) -> Step:
        """Call a method of a module, through its hooks, or of another object."""
        inputs, (output,), name = self._inputs(node), self._outputs(node), node.s("name")

        def step(slots: Slots) -> None:
            owner, *arguments = (slots[slot] for slot in inputs)
            if isinstance(owner, torch.nn.Module):
                slots[output] = owner.called(name, arguments)  # pyright: ignore[reportCallIssue]
            elif name != "__init__" or isinstance(owner, torch.ScriptObject):
                slots[output] = getattr(owner, name)(*arguments)

        return step

    def branch(self, node: Any) -> Step:
        """Run one of two blocks."""
        (condition,), outputs = self._inputs(node), self._outputs(node)
        yes, no = (self.block(block) for block in node.blocks())

        def step(slots: Slots) -> None:
            results = (yes if slots[condition] else no).run(slots)
            for slot, value in zip(outputs, results, strict=True):
                slots[slot] = value

        return step

    def loop(self, node: Any) -> Step:
        """Run a block as often as it says."""
        (most, first, *carried), outputs = self._inputs(node), self._outputs(node)
        (body,) = (self.block(block) for block in node.blocks())

        def step(slots: Slots) -> None:
            again, values, turn = slots[first], [slots[slot] for slot in carried], 0
            while again and turn < slots[most]:
                for slot, value in zip(body.inputs, [turn, *values], strict=True):
                    slots[slot] = value
                again, *values = body.run(slots)
                turn += 1
            for slot, value in zip(outputs, values, strict=True):
                slots[slot] = value

        return step


def _applied(
    function: Callable[..., Any], inputs: tuple[int, ...], outputs: tuple[int, ...]
) -> Step:
    if len(outputs) == 1:

        def single(slots: Slots) -> None:
            slots[outputs[0]] = function(*[slots[slot] for slot in inputs])

        return single

    def several(slots: Slots) -> None:
        results = function(*[slots[slot] for slot in inputs])
        for slot, value in zip(outputs, results if outputs else (), strict=True):
            slots[slot] = value

    return several


def _read(node: Any) -> Iterator[Any]:
    """All values that a node reads, those inside its blocks as well."""
    yield from node.inputs()
    for block in node.blocks():
        for inner in block.nodes():
            yield from _read(inner)
        yield from block.outputs()


_SPECIAL: Mapping[str, Callable[[_Reader, Any], Step]] = {
    _CALL: _Reader.call,
    "prim::If": _Reader.branch,
    "prim::Loop": _Reader.loop,
}


def arguments_of(
    schema: torch.FunctionSchema, args: tuple[Any, ...], kwargs: Mapping[str, Any]
) -> list[Any]:
    """All arguments of a method in order, defaults filled in; `schema` begins with the module.

    Raises
    ------
    ModelError
        If the arguments are not the method's.

    Examples
    --------
    >>> schema = torch._C.parse_schema("f(Any self, Tensor x, int n=3) -> Tensor")
    >>> arguments_of(schema, (), {"x": 1})
    [1, 3]
    """
    taken = schema.arguments[1:]
    rest = taken[len(args) :]  # what is given by position may share a name: tracing does that
    unknown = [name for name in kwargs if name not in [argument.name for argument in rest]]
    missing = [a.name for a in rest if a.name not in kwargs and not a.has_default_value()]
    if unknown or missing or len(args) > len(taken):
        raise ModelError(
            f"The TorchScript program takes {len(taken)} input{'s' if len(taken) != 1 else ''} "
            f"({', '.join(argument.name for argument in taken)}); got {len(args)} by position"
            f"{' and ' + ', '.join(kwargs) if kwargs else ''}."
        )
    return [*args, *(kwargs.get(a.name, a.default_value) for a in rest)]
