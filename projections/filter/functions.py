"""The functions that a filter may call, with SQLite's meaning, which is what MLMD's users know."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final

from eventstore.projections.filter import casting
from eventstore.projections.filter.schema import (
    BOOL,
    DUCKDB_TYPES,
    FLOAT64,
    INT64,
    NULL,
    NUMERIC,
    STRING,
    Typed,
)
from eventstore.projections.filter.tokens import refused

if TYPE_CHECKING:
    from eventstore.projections.filter.compiler import Compiler

_UPPER: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
_LOWER: Final = _UPPER.lower()
_FORMATS: Final = {"%d": INT64, "%i": INT64, "%s": STRING}
GROWN_BYTES_MAX: Final = 256 * 1024
"""The longest text that REPLACE may make: thousands of them are in memory at once."""
REPLACE_DEPTH_MAX: Final = 8
_SUBSTR_MAX: Final = 2**31 - 1
"""No text is longer, and DuckDB takes no positions far beyond."""


def ascii_lower(sql: str) -> str:
    """Lower the ASCII letters alone, as SQLite does."""
    return f"translate({sql}, '{_UPPER}', '{_LOWER}')"


def like_without_case(text: str, pattern: str) -> str:
    """LIKE that ignores the case of ASCII letters alone, as SQLite does."""
    # Lowering letters takes many times as long as comparing, and is needed only where the pattern
    # has letters. ILIKE ignores the case of all alphabets: what it does not find does not match.
    # What it finds matches where there are only ASCII characters, that is, where all bytes are
    # characters.
    has_no_letter = f"lower({pattern}) = upper({pattern})"
    is_ascii = f"strlen({text}) = length({text}) AND strlen({pattern}) = length({pattern})"
    exact = f"{ascii_lower(text)} LIKE {ascii_lower(pattern)}"
    with_letters = f"{text} ILIKE {pattern} AND ({is_ascii} OR {exact})"
    return f"(CASE WHEN {has_no_letter} THEN {text} LIKE {pattern} ELSE {with_letters} END)"


def called(name: str, arguments: Sequence[Typed]) -> Typed:
    """Raises InvalidArgumentError for a function that is not offered or wrong arguments."""
    function = name.upper()
    if function == "FORMAT":
        return _format(arguments)
    if function in ("COALESCE", "IFNULL", "NULLIF"):
        return _chosen(function, arguments)
    if function in ("ABS", "SIGN"):
        return _of_number(function, arguments)
    if function == "ROUND":
        return _round(arguments)
    signature = _SIGNATURES.get(function)
    if signature is None:
        raise refused(f"Function not found: {name}")
    least, taken, result, write = signature
    kinds = [argument.type for argument in arguments]
    if not least <= len(arguments) <= len(taken) or any(
        kind not in (wanted, NULL) for kind, wanted in zip(kinds, taken, strict=False)
    ):
        raise no_signature(function, arguments)
    return Typed(
        write(*(_typed(argument, kind) for argument, kind in zip(arguments, taken, strict=False))),
        result,
    )


def cast(compiler: Compiler, inner: Typed, type_name: str) -> Typed:
    """CAST; a literal is converted as GoogleSQL does it, all else as SQLite does it."""
    target = casting.TYPES.get(type_name.upper())
    if target is None:
        raise refused(
            f"Type not found: {type_name}; CAST is supported to STRING, INT64, FLOAT64 and BOOL"
        )
    if inner.type == NULL:
        return Typed(f"NULL::{DUCKDB_TYPES[target]}", target)
    if inner.type == target:
        return inner
    if (inner.type, target) not in casting.CASTS:
        raise refused(f"Invalid cast from {inner.type} to {target}")
    if inner.literal is not None:
        return compiler.literal_of(inner.literal.converted(casting.LITERAL_CASTS[target]), target)
    return Typed(casting.CASTS[inner.type, target](inner.sql), target)


def case(
    subject: Typed | None, branches: Sequence[tuple[Typed, Typed]], default: Typed | None
) -> Typed:
    conditions = [condition for condition, _ in branches]
    results = [result for _, result in branches]
    if subject is None and any(condition.type not in (BOOL, NULL) for condition in conditions):
        raise refused("No matching signature for operator CASE; a WHEN needs a BOOL")
    compared = INT64 if subject is None else common_type("CASE", [subject, *conditions])
    if default is not None:
        results = [*results, default]
    kind = common_type("CASE", results)
    parts = ["CASE"] if subject is None else [f"CASE {_typed(subject, compared)}"]
    for condition, result in branches:
        when = _typed(condition, BOOL if subject is None else compared)
        parts.append(f"WHEN {when} THEN {_typed(result, kind)}")
    if default is not None:
        parts.append(f"ELSE {_typed(default, kind)}")
    return Typed(f"({' '.join(parts)} END)", kind)


def _format(arguments: Sequence[Typed]) -> Typed:
    literal = arguments[0].literal if arguments else None
    wanted = None if literal is None else _FORMATS.get(literal.constant)
    if wanted is None:
        raise refused("FORMAT is supported with the formats '%d', '%i' and '%s' alone")
    if len(arguments) != 2:
        raise refused(f"FORMAT takes one value after its format, not {len(arguments) - 1}")
    value = arguments[1]
    if value.type != wanted and not (value.type == NULL and wanted == INT64):
        # NULL as such is an integer.
        raise no_signature("FORMAT", arguments)
    # As in SQLite: nothing is printed as 0, or as nothing.
    printed = f"{_typed(value, wanted)}::VARCHAR"
    return Typed(f"coalesce({printed}, '{'' if wanted == STRING else '0'}')", STRING)


def _chosen(function: str, arguments: Sequence[Typed]) -> Typed:
    if not arguments or (function != "COALESCE" and len(arguments) != 2):
        raise refused(f"Number of arguments does not match for function {function}")
    kind = common_type(function, arguments)
    name = "nullif" if function == "NULLIF" else "coalesce"
    return Typed(f"{name}({', '.join(_typed(part, kind) for part in arguments)})", kind)


def _of_number(function: str, arguments: Sequence[Typed]) -> Typed:
    if len(arguments) != 1 or arguments[0].type not in (INT64, FLOAT64, NULL):
        raise no_signature(function, arguments)
    kind = FLOAT64 if arguments[0].type == FLOAT64 else INT64
    number = _typed(arguments[0], kind)
    if function == "SIGN":
        return Typed(f"sign({number})::{DUCKDB_TYPES[kind]}", kind)
    return Typed(f"abs({number}::HUGEINT)" if kind == INT64 else f"abs({number})", kind)


def _round(arguments: Sequence[Typed]) -> Typed:
    kinds = [argument.type for argument in arguments]
    if len(kinds) not in (1, 2) or kinds[0] not in (INT64, FLOAT64, NULL):
        raise no_signature("ROUND", arguments)
    if kinds[1:] and kinds[1] not in (INT64, NULL):
        raise no_signature("ROUND", arguments)
    number = f"({arguments[0].sql})::DOUBLE"
    if len(arguments) == 1:
        return Typed(_rounded(number), FLOAT64)
    places = _typed(arguments[1], INT64)
    finer = f"round({number}, least(greatest({places}, 0), 30)::INTEGER)"
    return Typed(
        f"(CASE WHEN {places} IS NULL THEN NULL WHEN {places} <= 0 THEN {_rounded(number)} "
        f"ELSE {finer} END)",
        FLOAT64,
    )


def _rounded(number: str) -> str:
    """Half away from zero, as adding a half and cutting off does it."""
    is_whole = f"abs({number}) >= 4503599627370496"
    half = f"(CASE WHEN {number} < 0 THEN -0.5 ELSE 0.5 END)::DOUBLE"
    return f"(CASE WHEN {is_whole} THEN {number} ELSE trunc({number} + {half}) END)"


def _typed(part: Typed, kind: str) -> str:
    """The SQL of a part as one of a type that it is, or is taken for."""
    return part.sql if part.type == kind else f"({part.sql})::{DUCKDB_TYPES[kind]}"


def common_type(function: str, parts: Sequence[Typed]) -> str:
    """The type that all have or can be taken for; INT64 when nothing tells."""
    kinds = {part.type for part in parts} - {NULL}
    if not kinds:
        return INT64
    if FLOAT64 in kinds and kinds <= {*NUMERIC}:
        return FLOAT64
    if len(kinds) > 1 or not kinds <= {*DUCKDB_TYPES}:
        raise no_signature(function, parts)
    return kinds.pop()


def no_signature(name: str, parts: Sequence[Typed], what: str = "function") -> Exception:
    kinds = ", ".join(part.type for part in parts[:9])
    return refused(f"No matching signature for {what} {name} for argument types: {kinds}")


def _substr(text: str, start: str, length: str | None = None) -> str:
    parts = [text] + [
        f"least(greatest({part}, -{_SUBSTR_MAX}), {_SUBSTR_MAX})::BIGINT"
        for part in (start, length)
        if part is not None
    ]
    # DuckDB leaves NULL out of greatest and least.
    given = " OR ".join(f"{part} IS NULL" for part in (start, length) if part is not None)
    return f"(CASE WHEN {given} THEN NULL ELSE substr({', '.join(parts)}) END)"


def _replace(text: str, found: str, replacement: str) -> str:
    """REPLACE, an error where the text grows out of all proportion; NULL stays NULL."""
    if max(part.count("replace(v[1]") for part in (text, found, replacement)) >= REPLACE_DEPTH_MAX:
        raise refused(f"it has more than {REPLACE_DEPTH_MAX} REPLACE in each other")
    grown = "strlen(v[1]) // greatest(strlen(v[2]), 1) * strlen(v[3])"
    longest = f"greatest({GROWN_BYTES_MAX}, 2 * strlen(v[1]))"
    message = f"REPLACE makes a text of more than {GROWN_BYTES_MAX} bytes"
    return (
        f"list_transform([[{text}, {found}, {replacement}]], lambda v: CASE WHEN {grown} > "
        f"{longest} THEN error('{message}') ELSE replace(v[1], v[2], v[3]) END)[1]"
    )


def _trim(name: str) -> Callable[..., str]:
    return lambda text, characters="' '": f"{name}({text}, {characters})"


_SIGNATURES: Final[dict[str, tuple[int, tuple[str, ...], str, Callable[..., str]]]] = {
    "LOWER": (1, (STRING,), STRING, ascii_lower),
    "UPPER": (1, (STRING,), STRING, lambda text: f"translate({text}, '{_LOWER}', '{_UPPER}')"),
    "LENGTH": (1, (STRING,), INT64, lambda text: f"length({text})"),
    "UNICODE": (1, (STRING,), INT64, lambda text: f"nullif(unicode({text}), -1)::BIGINT"),
    "SUBSTR": (2, (STRING, INT64, INT64), STRING, _substr),
    "TRIM": (1, (STRING, STRING), STRING, _trim("trim")),
    "LTRIM": (1, (STRING, STRING), STRING, _trim("ltrim")),
    "RTRIM": (1, (STRING, STRING), STRING, _trim("rtrim")),
    "REPLACE": (3, (STRING, STRING, STRING), STRING, _replace),
}
"""By name: the fewest arguments, the types of all that there can be, the result's, and its SQL."""
