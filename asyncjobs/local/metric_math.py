"""The part of CloudWatch metric math that alarms on queues use: arithmetic, comparisons and a few functions.

https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/using-metric-math.html
"""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping


class MetricMathError(Exception):
    """An expression is outside of what is understood here."""


_BINARY: dict[type[ast.operator], Callable[[float, float], float]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: lambda a, b: a / b if b else 0.0,
    ast.Pow: operator.pow,
}
_COMPARE: dict[type[ast.cmpop], Callable[[float, float], bool]] = {
    ast.Gt: operator.gt,
    ast.GtE: operator.ge,
    ast.Lt: operator.lt,
    ast.LtE: operator.le,
    ast.Eq: operator.eq,
    ast.NotEq: operator.ne,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {
    "ABS": abs,
    "CEIL": math.ceil,
    "FLOOR": math.floor,
    "MAX": max,
    "MIN": min,
    "SUM": lambda *values: sum(values),
    "AVG": lambda *values: sum(values) / len(values),
    # Live values have no gaps to fill.
    "FILL": lambda value, _gap: value,
    "IF": lambda condition, then, other=0.0: then if condition else other,
}


def evaluate(expression: str, values: Mapping[str, float]) -> float:
    """The value of an expression over named values.

    Raises:
        MetricMathError: It cannot be parsed, or uses something else.
    """
    try:
        tree = ast.parse(expression.strip(), mode="eval")
    except (SyntaxError, ValueError) as error:
        raise MetricMathError(f"cannot read {expression!r}") from error
    try:
        return float(_value(tree.body, values))
    except (TypeError, ArithmeticError) as error:
        raise MetricMathError(f"cannot compute {expression!r}: {error}") from error


def _value(node: ast.expr, values: Mapping[str, float]) -> float:
    match node:
        case ast.Constant(value=int() | float() as number):
            return float(number)
        case ast.Name(id=name) if name in values:
            return values[name]
        case ast.Name(id="REPEAT" | "LINEAR"):
            return 0.0
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, values)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _BINARY:
            return _BINARY[type(op)](_value(left, values), _value(right, values))
        case ast.Compare(left=left, ops=[op], comparators=[right]) if type(op) in _COMPARE:
            return float(_COMPARE[type(op)](_value(left, values), _value(right, values)))
        case ast.BoolOp(op=op, values=operands):
            truth = all if isinstance(op, ast.And) else any
            return float(truth(_value(each, values) for each in operands))
        case ast.Call(func=ast.Name(id=name), args=[ast.List(elts=elements)], keywords=[]) if name in _FUNCTIONS:
            return float(_FUNCTIONS[name](*(_value(each, values) for each in elements)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return float(_FUNCTIONS[name](*(_value(each, values) for each in args)))
    raise MetricMathError(f"not understood here: {ast.unparse(node)}")
