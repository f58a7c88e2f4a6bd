"""The arithmetic of a multi grader's `calculate_output`: parsed, bounded and computed; nothing is executed."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Collection, Mapping
from typing import Any

LONGEST = 1000  # characters
NODES = 200
DEPTH = 40
_BINARY: dict[type[ast.operator], Callable[[float, float], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_UNARY: dict[type[ast.unaryop], Callable[[float], float]] = {ast.UAdd: operator.pos, ast.USub: operator.neg}
_FUNCTIONS: dict[str, tuple[int, int, Callable[..., float]]] = {  # fewest and most arguments
    "min": (2, NODES, min),
    "max": (2, NODES, max),
    "abs": (1, 1, abs),
    "floor": (1, 1, math.floor),
    "ceil": (1, 1, math.ceil),
    "exp": (1, 1, math.exp),
    "sqrt": (1, 1, math.sqrt),
    "log": (1, 1, math.log),
}


class FormulaError(ValueError):
    """The formula cannot be parsed, or has no value."""


class Formula:
    """A parsed formula: numbers, names, `+ - * / ^`, parentheses, and the functions above.

    Args:
        text: the formula; `^` and `**` are powers.
        names: what it may name.

    Raises:
        FormulaError: it is longer, deeper or of other parts than that.
    """

    def __init__(self, text: str, names: Collection[str]) -> None:
        if len(text) > LONGEST:
            raise FormulaError(f"calculate_output has more than {LONGEST} characters")
        try:
            tree = ast.parse(text.strip().replace("^", "**"), mode="eval")
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            raise FormulaError("calculate_output is no arithmetic formula") from None
        self.root = tree.body
        self.left = NODES
        self._check(self.root, names, 0)

    def __call__(self, values: Mapping[str, float]) -> float:
        """The value.

        Raises:
            FormulaError: there is none, as with a division by 0.
        """
        try:
            found = self._value(self.root, values)
        except (ArithmeticError, ValueError, TypeError):
            raise FormulaError("calculate_output has no value for these rewards") from None
        if not math.isfinite(found):
            raise FormulaError("calculate_output has no finite value for these rewards")
        return found

    def _check(self, node: ast.expr, names: Collection[str], depth: int) -> None:
        self.left -= 1
        if self.left < 0 or depth > DEPTH:
            raise FormulaError("calculate_output is too long")
        parts: list[ast.expr] = []
        if isinstance(node, ast.Constant):
            known = isinstance(node.value, int | float) and not isinstance(node.value, bool) and _bounded(node.value)
        elif isinstance(node, ast.Name):
            known = node.id in names
        elif isinstance(node, ast.BinOp):
            known, parts = type(node.op) in _BINARY, [node.left, node.right]
        elif isinstance(node, ast.UnaryOp):
            known, parts = type(node.op) in _UNARY, [node.operand]
        elif isinstance(node, ast.Call):
            name = node.func.id if isinstance(node.func, ast.Name) else ""
            fewest, most, _ = _FUNCTIONS.get(name, (1, 0, abs))
            known, parts = fewest <= len(node.args) <= most and not node.keywords, node.args
        else:
            known = False
        if not known:
            raise FormulaError("calculate_output has a part that is no number, known function or grader's name")
        for part in parts:
            self._check(part, names, depth + 1)

    def _value(self, node: ast.expr, values: Mapping[str, float]) -> float:
        # Everything is a float: an integer's power could fill the memory.
        if isinstance(node, ast.Constant):
            return float(node.value)  # type: ignore[arg-type]
        if isinstance(node, ast.Name):
            return float(values[node.id])
        if isinstance(node, ast.BinOp):
            found = _BINARY[type(node.op)](self._value(node.left, values), self._value(node.right, values))
        elif isinstance(node, ast.UnaryOp):
            found = _UNARY[type(node.op)](self._value(node.operand, values))
        else:
            assert isinstance(node, ast.Call) and isinstance(node.func, ast.Name)  # checked
            found = _FUNCTIONS[node.func.id][2](*(self._value(part, values) for part in node.args))
        return float(found)  # a TypeError where it is complex: the root of a negative number


def _bounded(value: float) -> bool:
    return abs(value) <= 1e15
