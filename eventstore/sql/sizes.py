"""How large a query asks one value to be: what is out of all proportion is refused.

While one function makes one value, DuckDB neither counts memory nor stops for anything. Sizes that
are computed from rows are not known in advance.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from eventstore.errors import InvalidArgumentError

SIZE_MAX: Final = 100_000_000
"""Characters of a text, or members of a list."""

_SIZED: Final = ("repeat", "lpad", "rpad", "list_resize", "array_resize")
"""The second argument is the size of what they make."""
_SERIES: Final = ("range", "generate_series")
_FORMATS: Final = ("printf", "format")
_LONG_NUMBER: Final = re.compile(r"[0-9]{6,}")
_COMPUTED: Final[dict[str, Callable[[float, float], float]]] = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": lambda left, right: left / right if right else 0.0,
    "//": lambda left, right: left // right if right else 0.0,
}
_POWERS: Final = ("^", "**", "pow", "power", "<<")
_EXPONENT_MAX: Final = 64

Parameters = Sequence[Any] | Mapping[str, Any] | None


def check_size(function: dict[str, Any], parameters: Parameters) -> None:
    """Raise InvalidArgumentError for a call, as DuckDB parses it, with too large a size."""
    name = function["function_name"].lower()
    arguments = _arguments(function)
    if name in _FORMATS and arguments:
        text = _constant(arguments[0], parameters)
        if isinstance(text, str) and any(int(n) > SIZE_MAX for n in _LONG_NUMBER.findall(text)):
            raise _too_large(name)
        return
    numbers = [_number(argument, parameters) for argument in arguments]
    if name in _SERIES:
        size = _length_of_series(numbers)
    else:
        size = numbers[1] if name in _SIZED and len(numbers) > 1 else None
        if name == "repeat" and size is not None:
            text = _constant(arguments[0], parameters)
            size *= len(text) if isinstance(text, str) else 1
    if size is not None and size > SIZE_MAX:
        raise _too_large(name)


def _length_of_series(numbers: Sequence[float | None]) -> float | None:
    if None in numbers or not 1 <= len(numbers) <= 3:
        return None
    known = [number for number in numbers if number is not None]
    if len(known) == 1:
        return known[0]
    first, last, step = (*known, 1.0)[:3]
    return (last - first) / step if step else None


def _arguments(function: dict[str, Any]) -> list[Any]:
    # DuckDB 2.0 names arguments, 1.5 has children.
    if "arguments" in function:
        return [argument["expression"] for argument in function["arguments"]]
    return list(function.get("children", ()))


def _number(node: Any, parameters: Parameters) -> float | None:
    """What an expression of constants amounts to, as far as that can be told."""
    if node.get("class") == "CAST":
        return _number(node["child"], parameters)
    if node.get("class") == "FUNCTION":
        return _computed(node, parameters)
    value = _constant(node, parameters)
    try:
        return None if value is None else float(value)
    except (TypeError, ValueError, OverflowError):
        return None


def _computed(node: Any, parameters: Parameters) -> float | None:
    name = node["function_name"].lower()
    if name not in _COMPUTED and name not in _POWERS:
        return None
    arguments = _arguments(node)
    if len(arguments) != 2:
        return None
    left, right = (_number(argument, parameters) for argument in arguments)
    if left is None or right is None:
        return None
    if name in _COMPUTED:
        return _COMPUTED[name](left, right)
    exponent = min(max(right, 0.0), _EXPONENT_MAX)
    if name == "<<":
        return float(left * 2.0**exponent)
    try:
        return float(abs(left) ** exponent)
    except OverflowError:
        return math.inf


def _constant(node: Any, parameters: Parameters) -> Any:
    if node.get("class") == "PARAMETER":
        return _parameter(str(node.get("identifier")), parameters)
    if node.get("class") != "CONSTANT":
        return None
    literal = node.get("literal")
    return node.get("value", {}).get("value") if literal is None else literal.get("text")


def _parameter(name: str, parameters: Parameters) -> Any:
    if isinstance(parameters, Mapping):
        return parameters.get(name)
    try:
        return None if parameters is None else list(parameters)[int(name) - 1]
    except (TypeError, ValueError, IndexError):
        return None


def _too_large(name: str) -> InvalidArgumentError:
    return InvalidArgumentError(
        f"{name} would make a value of more than {SIZE_MAX} characters or members; make a smaller "
        "one"
    )
