"""Every small change of a module's functions, one at a time."""

import ast
import copy
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

_BINARY: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub, ast.Sub: ast.Add, ast.Mult: ast.Div, ast.Div: ast.Mult, ast.Pow: ast.Mult,
    ast.FloorDiv: ast.Mult, ast.Mod: ast.Mult, ast.MatMult: ast.Mult,
}  # fmt: skip
_COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt, ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq, ast.Is: ast.IsNot, ast.IsNot: ast.Is, ast.In: ast.NotIn, ast.NotIn: ast.In,
}  # fmt: skip
_CALLS = {
    "sum": "mean", "mean": "sum", "amax": "amin", "amin": "amax", "max": "min", "min": "max",
    "ceil": "floor", "floor": "ceil", "zeros_like": "ones_like", "ones_like": "zeros_like",
}  # fmt: skip
_LEFT_OUT = {"abs", "relu", "clamp", "clamp_min", "square", "sqrt", "flip"}


@dataclass(frozen=True)
class Mutant:
    """One change: where it is, what it is, and the module with it."""

    line: int
    what: str
    tree: ast.Module


def mutants(source: str) -> Iterator[Mutant]:
    """Change one thing after the other; texts, errors and annotations stay.

    Where a line allows the same change at several places, those after the first are numbered.
    """
    tree = ast.parse(source)
    seen: Counter[tuple[int, str]] = Counter()
    for number, node in enumerate(_places(tree)):
        for turn, what in enumerate(_changes(copy.deepcopy(node))):
            changed = copy.deepcopy(tree)
            found = list(_places(changed))[number]
            made = list(_changes(found))[turn][1]
            _put(changed, found, made)
            before, after = ast.unparse(node), ast.unparse(made)
            del what
            said = f"{before}  ->  {after}"
            seen[node.lineno, said] += 1
            if (place := seen[node.lineno, said]) > 1:
                said += f" ({place})"
            yield Mutant(node.lineno, said, ast.fix_missing_locations(changed))


def _places(tree: ast.Module) -> Iterator[ast.expr]:
    """Expressions in bodies of functions."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef) and node.name != "__repr__":
            for statement in node.body:
                yield from _expressions(statement)


def _expressions(node: ast.AST) -> Iterator[ast.expr]:
    if isinstance(node, ast.Raise | ast.JoinedStr | ast.FunctionDef | ast.Assert):
        return
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return
    if isinstance(node, ast.expr):
        yield node
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns"):
            continue
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, ast.AST):
                yield from _expressions(inner)


def _changes(node: ast.expr) -> Iterator[tuple[str, ast.expr]]:
    match node:
        case ast.BinOp(op=op) if type(op) in _BINARY:
            yield "operator", ast.BinOp(node.left, _BINARY[type(op)](), node.right)
        case ast.Compare(ops=[op]) if type(op) in _COMPARISONS:
            yield "comparison", ast.Compare(node.left, [_COMPARISONS[type(op)]()], node.comparators)
        case ast.BoolOp():
            other = ast.Or() if isinstance(node.op, ast.And) else ast.And()
            yield "connective", ast.BoolOp(other, node.values)
        case ast.UnaryOp(op=ast.USub() | ast.Not()):
            yield "sign", node.operand
        case ast.Constant(value=bool()):
            yield "constant", ast.Constant(not node.value)
        case ast.Constant(value=int() | float()):
            yield "constant", ast.Constant(node.value + 1)
        case ast.IfExp():
            yield "condition", ast.IfExp(node.test, node.orelse, node.body)
        case ast.Call(func=ast.Attribute(attr=name)) if name in _CALLS:
            function = ast.Attribute(node.func.value, _CALLS[name], ast.Load())
            yield "call", ast.Call(function, node.args, node.keywords)
        case ast.Call(func=ast.Attribute(attr=name)) if name in _LEFT_OUT:
            yield "left out", node.func.value
        case _:
            return


def _put(tree: ast.Module, old: ast.expr, new: ast.expr) -> None:
    ast.copy_location(new, old)
    for parent in ast.walk(tree):
        for name, value in ast.iter_fields(parent):
            if value is old:
                setattr(parent, name, new)
                return
            if isinstance(value, list):
                for place, one in enumerate(value):
                    if one is old:
                        value[place] = new
                        return
