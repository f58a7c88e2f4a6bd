"""Sandboxed Jinja expressions over data: how a YAML file says where a field comes from.

An expression sees values and a few filters, nothing else: no files, no imports, no attribute that starts with
an underscore. The content of a record is only data and is never compiled. No operator and no filter makes up a value:
null, true or a list in a text, a text such as `False` as a condition, a text where a number is compared, a place that
is computed and negative, a letter of a text in place of a list's member, or a missing value that would choose between
two constants (`'A' if record.winner == 'model_a' else 'B'`) raise.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from functools import cache
from inspect import signature
from typing import Any

from jinja2 import StrictUndefined, Template, TemplateSyntaxError, Undefined, meta, nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment, SecurityError

from pipelines.datasets import filters

CHECKED = (nodes.Concat, nodes.Compare, nodes.Getitem)
CONSTANT = " (a constant text has quotes of its own: \"'Is it right?'\")"
LABEL = "verdict"  # of a mapping of columns
ASKS_FOR_NULL = ("none", "defined", "undefined")
COMPARED = {"eq": "equal", "ne": "equal", "in": "among", "notin": "among"}


class MissingValue(Exception):
    """An expression asked for a key that the data does not have.

    Attributes:
        holder: what was looked into.
        key: what was looked for.
    """

    def __init__(self, holder: Any, key: Any) -> None:
        self.holder, self.key = holder, key
        super().__init__(f"there is no {key!r}")


class _Missing(StrictUndefined):
    __slots__ = ()

    def __init__(self, hint: Any = None, obj: Any = None, name: Any = None, exc: Any = None) -> None:
        def raised(said: str) -> Exception:
            # Without a name nothing was asked for: an `if` without `else`, the first member of an empty list.
            return ValueError(said) if name is None else MissingValue(obj, name)

        super().__init__(hint, obj, name, raised)  # type: ignore[arg-type]


class _Environment(ImmutableSandboxedEnvironment):
    intercepted_binops = frozenset(["+", "-", "*", "/", "//", "%", "**"])

    def from_string(self, source: str | nodes.Template, *arguments: Any, **named: Any) -> Template:
        """`compile_expression` ends here with its tree, whose texts and conditions are then checked."""
        if isinstance(source, nodes.Template):
            _check_conversions(source)
        return super().from_string(source, *arguments, **named)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Arithmetic: true and false are no numbers, and `%` fills a pattern as the filter `format` does."""
        if operator == "%" and isinstance(left, str):
            return filters.formatted(left, *(right if isinstance(right, tuple) else (right,)))
        if isinstance(left, bool) or isinstance(right, bool):
            raise TypeError(f"true or false in a calculation with {operator}")
        return super().call_binop(context, operator, left, right)

    def getattr(self, obj: Any, attribute: str) -> Any:
        """`record.items` is the record's own key of that name before it is the method of a dict."""
        if isinstance(obj, Mapping) and attribute in obj:
            return obj[attribute]
        if isinstance(obj, str) and attribute in ("format", "format_map"):
            raise SecurityError("would write Python's form of anything: use `~` or the filter `format`")
        return super().getattr(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Looking null up in a table gives null, so that a null label stays a null verdict."""
        if isinstance(obj, str) and isinstance(argument, int):
            raise TypeError("a text where a list is needed; letters of a text are `[:1]`")
        if isinstance(obj, Mapping) and isinstance(argument, Hashable) and argument not in obj:
            if argument is None:
                return None
            filters.unlike(obj, argument)
        return super().getitem(obj, argument)


def check(text: str, names: Iterable[str]) -> None:
    """Check that an expression compiles and uses known names only.

    Raises:
        ValueError: it does not.
    """
    known = sorted(names)
    unknown = _asked_for(text) - {*known}
    if unknown:
        raise ValueError(f"unknown name '{min(unknown)}' in an expression; known: {', '.join(known)}{CONSTANT}")


@cache  # sources that are variants of each other have most of their expressions in common
def _asked_for(text: str) -> frozenset[str]:
    """The names that an expression asks its surroundings for, once it has been checked apart from these."""
    try:
        tree = _environment().parse("{{ (" + text + "\n) }}")
        _compiled(text)
        for node in tree.find_all(nodes.Filter):
            _check_arguments(node)
    except TemplateSyntaxError as exc:
        raise ValueError(f"not an expression: {exc.message}{CONSTANT}") from None
    return frozenset(meta.find_undeclared_variables(tree) - {*_environment().globals})


def evaluate(text: str, values: dict[str, Any]) -> Any:
    """The value of an expression.

    Raises:
        MissingValue: the data lacks a key that the expression asks for.
        Exception: whatever else the expression raises.
    """
    value = _compiled(text)(values)
    require(value)
    return value


def require(value: Any) -> None:
    """Raise MissingValue for a value, or a member of a list, that is undefined."""
    for part in value if isinstance(value, (list, tuple)) else (value,):
        if isinstance(part, Undefined):
            raise part._undefined_exception(part._undefined_message)


def belongs_to(data: Any, holder: Any) -> bool:
    """Whether `holder` is `data` or a container somewhere inside it (by identity)."""
    stack = [data]
    while stack:
        node = stack.pop()
        if node is holder:
            return True
        if isinstance(node, Mapping):
            stack.extend(node.values())
        elif isinstance(node, (list, tuple)):
            stack.extend(node)
    return False


@cache
def _compiled(text: str) -> Callable[[dict[str, Any]], Any]:
    return _environment().compile_expression(text, undefined_to_none=False)


@cache
def _environment() -> _Environment:
    environment = _Environment(undefined=_Missing, autoescape=False)
    filters.install(environment)
    return environment


def _check_arguments(node: nodes.Filter) -> None:
    """Raise ValueError where a filter is given other arguments than it takes."""
    function = _environment().filters[node.name]
    before = hasattr(function, "jinja_pass_arg") + (node.node is not None)
    named = {str(given.key): given for given in node.kwargs}
    try:
        if node.dyn_args is None and node.dyn_kwargs is None:
            signature(function).bind(*[None] * before, *node.args, **named)
    except TypeError as exc:
        raise ValueError(f"the filter {node.name}: {exc}") from None


def _check_conversions(tree: nodes.Node) -> None:
    """Have values checked where they are joined, tested, compared or looked up: `filters.py` says for what."""
    labels = {
        id(choice)
        for pair in tree.find_all(nodes.Pair)
        if isinstance(pair.key, nodes.Const) and pair.key.value == LABEL
        for choice in (pair.value, *pair.value.find_all(nodes.CondExpr))
    }
    for choice in list(tree.find_all(nodes.CondExpr)):
        if _constant(choice.expr1) and _constant(choice.expr2):
            choice.test = _told(choice.test, bare=id(choice) in labels)
    for node in list(tree.find_all((*CHECKED, nodes.CondExpr, nodes.Not, nodes.And, nodes.Or))):
        if isinstance(node, nodes.Concat):
            node.nodes = [_filter(part, "text") for part in node.nodes]
        elif isinstance(node, nodes.CondExpr):
            node.test = _filter(node.test, "condition")
        elif isinstance(node, nodes.Not):
            node.node = _filter(node.node, "condition")
        elif isinstance(node, nodes.And | nodes.Or):
            node.left = _filter(node.left, "not_misleading")
        elif isinstance(node, nodes.Compare):
            left = node.expr
            for operand in node.ops:
                right = operand.expr
                operand.expr, left = _filter(right, COMPARED.get(operand.op, "ordered"), left), right
        elif isinstance(node, nodes.Getitem) and not isinstance(node.arg, nodes.Const | nodes.Neg | nodes.Slice):
            node.arg = _filter(node.arg, "place", node.node)


def _constant(node: nodes.Node | None) -> bool:
    """Whether a branch is a constant, or a further choice between such."""
    if isinstance(node, nodes.CondExpr):
        return _constant(node.expr1) and _constant(node.expr2)
    return isinstance(node, nodes.Const) and node.value is not None


def _told(test: nodes.Expr, bare: bool) -> nodes.Expr:
    """A test of what is there: it raises for what is missing, unless it asks whether it is, as `not record.x` does.

    Args:
        test: of a choice between constants.
        bare: the choice is a label, so that a value which is there says which; else it may ask whether one is.
    """
    if isinstance(test, nodes.Not):
        test.node = _told(test.node, bare) if isinstance(test.node, nodes.Compare | nodes.And | nodes.Or) else test.node
    elif isinstance(test, nodes.And | nodes.Or):
        test.left, test.right = _told(test.left, bare), _told(test.right, bare)
    elif isinstance(test, nodes.Test):
        test.node = test.node if test.name in ASKS_FOR_NULL or not bare else _filter(test.node, "known")
    elif isinstance(test, nodes.Compare):
        operands: list[Any] = [test, *test.ops]
        if not any(isinstance(one.expr, nodes.Const) and one.expr.value in (None, "") for one in operands):
            labels = any(_is_label(one.expr) for one in operands)
            for one in operands:
                one.expr = _filter(one.expr, "written_label" if labels else "known")
    elif bare:
        return _filter(test, "known")
    return test


def _is_label(node: nodes.Node) -> bool:
    """Whether it is a constant text, or a list of such."""
    members = node.items if isinstance(node, nodes.List | nodes.Tuple) else [node]
    return all(isinstance(one, nodes.Const) and isinstance(one.value, str) for one in members)


def _filter(node: nodes.Expr, name: str, *arguments: nodes.Expr) -> nodes.Expr:
    if isinstance(node, nodes.Const) and not arguments:
        return node
    checked = nodes.Filter(node, name, list(arguments), [], None, None, lineno=node.lineno)
    checked.set_environment(_environment())
    return checked
