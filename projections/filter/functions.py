"""The functions that a filter may call, with SQLite's meaning, which is what MLMD's users know."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlglot import exp

from eventstore.projections.filter.lexing import DECIMAL_FORMAT, refused
from eventstore.projections.filter.schema import BOOL, FLOAT64, INT64, NULL, STRING, Typed

if TYPE_CHECKING:
    from eventstore.projections.filter.compiler import Compiler

_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER = _UPPER.lower()
_CAST_TYPES = {
    exp.DataType.Type.TEXT: STRING,
    exp.DataType.Type.VARCHAR: STRING,
    exp.DataType.Type.BIGINT: INT64,
    exp.DataType.Type.INT: INT64,
    exp.DataType.Type.DOUBLE: FLOAT64,
    exp.DataType.Type.BOOLEAN: BOOL,
}


def ascii_lower(sql: str) -> str:
    """Lower the ASCII letters alone, as SQLite does."""
    return f"translate({sql}, '{_UPPER}', '{_LOWER}')"


def like_without_case(text: str, pattern: str) -> str:
    """LIKE that takes the ASCII letters alone for the same in either case, as SQLite does."""
    # ILIKE does so with all letters, so it serves where there are ASCII characters alone: all
    # bytes are then characters. It is many times faster.
    is_ascii = f"strlen({text}) = length({text}) AND strlen({pattern}) = length({pattern})"
    exact = f"{ascii_lower(text)} LIKE {ascii_lower(pattern)}"
    return f"(CASE WHEN {is_ascii} THEN {text} ILIKE {pattern} ELSE {exact} END)"


def compile_function(compiler: Compiler, node: Any) -> Typed:
    """Raises InvalidArgumentError for a function that is not offered or wrong arguments."""
    if isinstance(node, exp.Case):
        return _case(compiler, node)
    if isinstance(node, exp.Cast) and not isinstance(node, exp.TryCast):
        return _cast(compiler, node)
    if isinstance(node, exp.Coalesce):
        return _same_typed(compiler, "coalesce", [node.this, *node.expressions])
    if isinstance(node, exp.Nullif):
        first, second = compiler.compile(node.this), compiler.compile(node.expression)
        kind = _common_type("NULLIF", [first, second])
        return Typed(f"nullif({first.sql}, {second.sql})", kind)
    if isinstance(node, (exp.Lower, exp.Upper)):
        text = _argument(compiler, node.this, STRING, type(node).__name__.upper())
        if isinstance(node, exp.Lower):
            return Typed(ascii_lower(text), STRING)
        return Typed(f"translate({text}, '{_LOWER}', '{_UPPER}')", STRING)
    if isinstance(node, exp.Length):
        return Typed(f"length({_argument(compiler, node.this, STRING, 'LENGTH')})", INT64)
    if isinstance(node, exp.Substring):
        return _substring(compiler, node)
    if isinstance(node, exp.Trim):
        return _trim(compiler, node)
    if isinstance(node, exp.Abs):
        return _numeric(compiler, node.this, "abs")
    if isinstance(node, exp.Sign):
        return _numeric(compiler, node.this, "sign")
    if isinstance(node, exp.Round) and not node.args.get("decimals"):
        inner = compiler.compile(node.this)
        if inner.type not in (INT64, FLOAT64):
            raise _no_signature("ROUND", [inner])
        return Typed(f"round({inner.sql}::DOUBLE)", FLOAT64)
    if isinstance(node, exp.Format):
        return _format(compiler, node)
    if isinstance(node, exp.Replace):
        parts = [
            _argument(compiler, node.args[name], STRING, "REPLACE")
            for name in ("this", "expression", "replacement")
        ]
        return Typed(f"replace({', '.join(parts)})", STRING)
    raise refused(f"Function not found: {node.sql_name() if hasattr(node, 'sql_name') else node}")


def _format(compiler: Compiler, node: Any) -> Typed:
    arguments = node.expressions
    if not isinstance(node.this, exp.Column) or node.this.name != DECIMAL_FORMAT:
        raise refused("FORMAT is supported with '%d' alone")
    if len(arguments) != 1:
        raise refused(f"FORMAT('%d', ...) takes one number, not {len(arguments)}")
    number = _argument(compiler, arguments[0], INT64, "FORMAT")
    # As SQLite: nothing is printed as 0.
    return Typed(f"coalesce({number}, 0)::VARCHAR", STRING)


def _case(compiler: Compiler, node: exp.Case) -> Typed:
    subject = compiler.compile(node.this) if node.this is not None else None
    branches, results = [], []
    for branch in node.args["ifs"]:
        condition, result = compiler.compile(branch.this), compiler.compile(branch.args["true"])
        if subject is None and condition.type != BOOL:
            raise refused(f"a WHEN of CASE needs a BOOL, not {condition.type}")
        if subject is not None:
            _common_type("CASE", [subject, condition])
        branches.append(f"WHEN {condition.sql} THEN {result.sql}")
        results.append(result)
    default = node.args.get("default")
    if default is not None:
        results.append(compiler.compile(default))
        branches.append(f"ELSE {results[-1].sql}")
    start = "CASE" if subject is None else f"CASE {subject.sql}"
    return Typed(f"({start} {' '.join(branches)} END)", _common_type("CASE", results))


def _cast(compiler: Compiler, node: exp.Cast) -> Typed:
    target = _CAST_TYPES.get(node.to.this)
    if target is None:
        raise refused("CAST is supported to STRING, INT64, FLOAT64 and BOOL alone")
    inner = compiler.compile(node.this)
    sql = inner.sql
    if inner.type in (target, NULL):
        return Typed(f"{sql}::{_duckdb_type(target)}", target)
    if target == STRING and inner.type == BOOL:
        return Typed(f"({sql})::INTEGER::VARCHAR", STRING)
    if target == STRING:
        return Typed(f"({sql})::VARCHAR", STRING)
    if inner.type == STRING and target == INT64:
        digits = f"regexp_extract(trim({sql}), '^[+-]?[0-9]+')"
        return Typed(_number_or_zero(sql, f"try_cast({digits} AS BIGINT)"), INT64)
    if inner.type == STRING and target == FLOAT64:
        number = f"regexp_extract(trim({sql}), '^[+-]?[0-9]+(\\.[0-9]*)?([eE][+-]?[0-9]+)?')"
        return Typed(_number_or_zero(sql, f"try_cast({number} AS DOUBLE)"), FLOAT64)
    if inner.type == FLOAT64 and target == INT64:
        return Typed(f"try_cast(trunc({sql}) AS BIGINT)", INT64)
    if target == BOOL and inner.type == INT64:
        return Typed(f"({sql} != 0)", BOOL)
    if {inner.type, target} <= {INT64, FLOAT64, BOOL} and {inner.type, target} != {FLOAT64, BOOL}:
        return Typed(f"({sql})::{_duckdb_type(target)}", target)
    raise refused(f"Invalid cast from {inner.type} to {target}")


def _number_or_zero(text: str, number: str) -> str:
    """Text without a number in front is 0, as on SQLite; NULL stays NULL."""
    return f"CASE WHEN {text} IS NULL THEN NULL ELSE coalesce({number}, 0) END"


def _substring(compiler: Compiler, node: exp.Substring) -> Typed:
    parts = [
        _argument(compiler, node.this, STRING, "SUBSTR"),
        _argument(compiler, node.args["start"], INT64, "SUBSTR"),
    ]
    if node.args.get("length") is not None:
        parts.append(_argument(compiler, node.args["length"], INT64, "SUBSTR"))
    return Typed(f"substr({', '.join(parts)})", STRING)


def _trim(compiler: Compiler, node: exp.Trim) -> Typed:
    name = {"LEADING": "ltrim", "TRAILING": "rtrim"}.get(str(node.args.get("position")), "trim")
    parts = [_argument(compiler, node.this, STRING, name.upper())]
    if node.expression is not None:
        parts.append(_argument(compiler, node.expression, STRING, name.upper()))
    return Typed(f"{name}({', '.join(parts)})", STRING)


def _numeric(compiler: Compiler, argument: Any, name: str) -> Typed:
    inner = compiler.compile(argument)
    if inner.type not in (INT64, FLOAT64):
        raise _no_signature(name.upper(), [inner])
    return Typed(f"{name}({inner.sql})::{_duckdb_type(inner.type)}", inner.type)


def _same_typed(compiler: Compiler, name: str, arguments: list[Any]) -> Typed:
    compiled = [compiler.compile(argument) for argument in arguments]
    kind = _common_type(name.upper(), compiled)
    return Typed(f"{name}({', '.join(c.sql for c in compiled)})", kind)


def _argument(compiler: Compiler, argument: Any, wanted: str, function: str) -> str:
    compiled = compiler.compile(argument)
    if compiled.type not in (wanted, NULL):
        raise _no_signature(function, [compiled])
    return compiled.sql


def _common_type(function: str, parts: list[Typed]) -> str:
    kinds = {part.type for part in parts} - {NULL}
    if kinds <= {INT64, FLOAT64} and len(kinds) == 2:
        return FLOAT64
    if len(kinds) > 1:
        raise _no_signature(function, parts)
    return kinds.pop() if kinds else NULL


def _no_signature(function: str, parts: list[Typed]) -> Exception:
    kinds = ", ".join(part.type for part in parts)
    return refused(f"No matching signature for function {function} for argument types: {kinds}")


def _duckdb_type(kind: str) -> str:
    return {INT64: "BIGINT", FLOAT64: "DOUBLE", STRING: "VARCHAR", BOOL: "BOOLEAN"}[kind]
