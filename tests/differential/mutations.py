"""Texts of filters that nobody would write: calls with arguments of all kinds, and mutations."""

from __future__ import annotations

import random
import re
from typing import Final

from tests.differential.expressions import random_expression
from tests.differential.filters import random_filter

_INTS: Final = (
    "0", "1", "-1", "2", "63", "64", "-64", "0x10", "00012", "9223372036854775807",
    "-9223372036854775808", "9223372036854775808", "-9223372036854775809", "+3", "- 2", "~1",
)  # fmt: skip
_FLOATS: Final = ("1.5", "2.5", "-0.5", ".5", "3.", "1e3", "-1.e-2", "0.0", "-2.5", "1E+2", "1e")
_STRINGS: Final = (
    "''", "'n1'", '"n2"', "'12'", "' 7 '", "'-3.5x'", "'1e2'", "'true'", "'False'", "'0x1F'",
    "'.5'", "'ä%'", "'Ä_'", "'%'", "'_'", "'\\u00a0a\\t'", "'\\x6e1'", "r'\\n'", "'''a'''",
    '"""n1"""', "'99999999999999999999'", "'+5'", "'\\U0001F600b'", "'e\\u0301'", "'  '", "'n%'",
    "'%\\\\%'", "b'a'", "'\\'", "'\\q'",
)  # fmt: skip
_OTHERS: Final = (
    "NULL", "TRUE", "false", "CAST(NULL AS INT64)", "CAST(NULL AS STRING)",
    "CAST(NULL AS FLOAT64)", "CAST(NULL AS BOOL)", "(NULL)", "x", "`id`", "LIVE", "*", "()",
)  # fmt: skip
_BOOLS: Final = ("TRUE", "false", "True", "1 = 1", "CAST(NULL AS BOOL)", "NULL")
_BY_TYPE: Final[dict[str, tuple[str, ...]]] = {
    "int": ("id", "type_id", "properties.i.int_value", "custom_properties.`a b`.int_value"),
    "float": ("properties.d.double_value",),
    "string": ("name", "name", "type", "external_id", "properties.s.string_value"),
    "bool": ("properties.b.bool_value",),
}
_OF_ALL_TYPES: Final = tuple(name for names in _BY_TYPE.values() for name in names)
_OF_KIND: Final[dict[str, dict[str, tuple[str, ...]]]] = {
    "artifact": {
        "int": ("state", "events_0.type", "contexts_a. id"),
        "string": ("uri", "contexts_a.name"),
    },
    "execution": {
        "int": ("last_known_state", "events_0.artifact_id"),
        "string": ("contexts_a.type",),
    },
    "context": {
        "int": ("executions_b.id",),
        "string": ("artifacts_a.uri", "parent_contexts_p.name"),
    },
}
_FORMS: Final[tuple[tuple[str, ...], ...]] = (
    ("int", "ABS({})", "int"),
    ("float", "abs({})", "float"),
    ("int", "SIGN({})", "int"),
    ("float", "SIGN({})", "float"),
    ("float", "ROUND({})", "float"),
    ("float", "Round({}, {})", "float", "int"),
    ("int", "LENGTH({})", "string"),
    ("int", "UNICODE({})", "string"),
    ("string", "lower({})", "string"),
    ("string", "UPPER({})", "string"),
    ("string", "SUBSTR({}, {})", "string", "int"),
    ("string", "SUBSTR({}, {}, {})", "string", "int", "int"),
    ("string", "TRIM({})", "string"),
    ("string", "TRIM({}, {})", "string", "string"),
    ("string", "LTRIM({}, {})", "string", "string"),
    ("string", "RTRIM({})", "string"),
    ("string", "REPLACE({}, {}, {})", "string", "string", "string"),
    ("string", "FORMAT('%d', {})", "int"),
    ("string", "FORMAT('%s', {})", "string"),
    ("any", "COALESCE({}, {})", "any", "any"),
    ("any", "COALESCE({}, {}, {})", "any", "any", "any"),
    ("any", "IFNULL({}, {})", "any", "any"),
    ("any", "NULLIF({}, {})", "any", "any"),
    ("any", "CASE WHEN {} THEN {} ELSE {} END", "bool", "any", "any"),
    ("any", "CASE WHEN {} THEN {} END", "bool", "any"),
    ("any", "CASE {} WHEN {} THEN {} WHEN {} THEN {} END", "int", "int", "any", "int", "any"),
    ("any", "CASE {} WHEN {} THEN {} ELSE {} END", "string", "string", "any", "any"),
    ("int", "CAST({} AS INT64)", "string"),
    ("int", "CAST({} AS INT64)", "float"),
    ("int", "CAST({} AS INT64)", "bool"),
    ("float", "CAST({} AS FLOAT64)", "string"),
    ("float", "CAST({} AS FLOAT64)", "int"),
    ("bool", "CAST({} AS BOOL)", "int"),
    ("bool", "CAST({} AS BOOL)", "string"),
    ("string", "CAST({} AS STRING)", "int"),
    ("string", "CAST({} AS STRING)", "bool"),
    ("string", "CAST({} AS STRING)", "string"),
    ("int", "({} + {})", "int", "int"),
    ("int", "({} - {})", "int", "int"),
    ("int", "({} * {})", "int", "int"),
    ("int", "({} | {})", "int", "int"),
    ("int", "({} & {})", "int", "int"),
    ("int", "({} << {})", "int", "int"),
    ("int", "({} >> {})", "int", "int"),
    ("int", "-{}", "int"),
    ("int", "~{}", "int"),
    ("float", "-{}", "float"),
    ("float", "({} + {})", "float", "int"),
    ("float", "({} - {})", "float", "float"),
    ("float", "({} * {})", "float", "float"),
    ("float", "({} / {})", "int", "int"),
    ("float", "({} / {})", "float", "float"),
    ("bool", "({} AND {})", "bool", "bool"),
    ("bool", "({} OR {})", "bool", "bool"),
    ("bool", "(NOT {})", "bool"),
    ("bool", "({} IS TRUE)", "bool"),
    ("int", "IF({}, {}, {})", "bool", "int", "int"),
    ("int", "MOD({}, {})", "int", "int"),
    ("string", "CONCAT({}, {})", "string", "string"),
    ("any", "NVL({}, {})", "any", "any"),
    ("string", "SUBSTRING({}, {})", "string", "int"),
    ("any", "CAST({} AS FOO)", "any"),
    ("any", "CAST({} AS DOUBLE)", "any"),
    ("int", "CAST({} AS INTEGER)", "int"),
)
"""What is computed, how it is written, and of what."""
_BINARY: Final = (
    "+", "-", "*", "/", "|", "&", "<<", ">>", "=", "!=", "<>", "<", "<=", ">", ">=", "LIKE",
    "NOT LIKE", "AND", "OR", "and", "==", "||", "IN", "IS",
)  # fmt: skip
_WORDS: Final = (
    *_BINARY, *_OTHERS, "NOT", "(", ")", ",", ".", "IS NULL", "IS NOT TRUE", "IS UNKNOWN",
    "BETWEEN", "NOT BETWEEN", "1", "'a'", "id", "name", "state", "IN (1, 2)", "IN (LIVE)", "CASE",
    "WHEN", "THEN", "ELSE", "END", "CAST", "AS", "-", "~", "+", ";", "/* c */", "-- c\n", "# c\n",
    "\n", "\u00a0", "::", "?", "@p", "!", "%", "DISTINCT", "NOTNULL", "contexts_a", "INPUT",
    "type", "IN UNNEST([1])", "[", "{", "\\", "$", "ESCAPE", "COLLATE", "= ANY", "EXISTS",
)  # fmt: skip
_TOKEN: Final = re.compile(
    r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|\w+|\s+|<>|!=|<=|>=|<<|>>|.", re.DOTALL
)
_CHARACTERS: Final = " .,()'\"`+-*/=<>!~|&^%;:#@?$[]{}\\_aA0e1xX\n\t\u00a0ä"


def random_text(choice: random.Random, kind: str) -> str:
    """A text that is mostly one change away from a filter, or calls what nobody would call."""
    write = choice.choice((random_filter, random_expression, _calls, _calls, _pairs))
    text = _tokens_of(write(choice, kind), choice)
    for _ in range(choice.choice((0, 0, 0, 1, 1, 2))):
        text = choice.choice((_by_token, _by_token, _by_token, _by_character))(choice, text)
    return text


def _tokens_of(text: str, choice: random.Random) -> str:
    """The text with names, perhaps, that the odd store knows."""
    if choice.random() < 0.5:
        text = text.replace("properties.int.", "properties.i.")
        text = text.replace("properties.double.", "properties.d.")
        text = text.replace("properties.string.", "properties.s.")
        text = text.replace("properties.bool.", "properties.b.")
    return text


def _value(choice: random.Random, kind: str, depth: int, wanted: str = "") -> str:
    """A value, nearly always of a type that is wanted."""
    if not wanted or choice.random() < 0.06:
        wanted = choice.choice(("int", "int", "float", "string", "string", "bool", "any"))
    roll = choice.random()
    if depth and roll < 0.45:
        return _computed(choice, kind, depth - 1, wanted)
    if roll < 0.75:
        columns = _BY_TYPE.get(wanted, _OF_ALL_TYPES) + _OF_KIND[kind].get(wanted, ())
        return choice.choice(columns)
    if choice.random() < 0.1:
        return choice.choice(_OTHERS)
    literals = {"int": _INTS, "float": _FLOATS, "string": _STRINGS, "bool": _BOOLS}
    return choice.choice(literals.get(wanted, _OTHERS))


def _computed(choice: random.Random, kind: str, depth: int, wanted: str) -> str:
    if wanted == "bool" and choice.random() < 0.3:
        return f"({_test(choice, kind, depth)})"
    forms = [form for form in _FORMS if form[0] in (wanted, "any")]
    if wanted == "any" or choice.random() < 0.05:
        forms = list(_FORMS)
    _, form, *arguments = choice.choice(forms)
    values = [
        _value(choice, kind, depth, wanted if argument == "any" else argument)
        for argument in arguments
    ]
    return form.format(*values)


def _test(choice: random.Random, kind: str, depth: int) -> str:
    wanted = choice.choice(("int", "int", "float", "string", "string", "bool"))
    near = choice.choice(("int", "float")) if wanted in ("int", "float") else wanted
    value, other, third = (_value(choice, kind, depth, which) for which in (wanted, near, wanted))
    negation = choice.choice(("", "NOT "))
    return choice.choice(
        (
            f"{value} {choice.choice(('=', '!=', '<', '>=', '<>'))} {other}",
            f"{value} {choice.choice(('=', '!=', '<', '>=', '<>'))} {other}",
            f"{value} {negation}IN ({other}, {third})",
            f"{value} {negation}BETWEEN {other} AND {third}",
            f"{_value(choice, kind, depth, 'string')} {negation}LIKE "
            f"{_value(choice, kind, depth, 'string')}",
            f"{value} IS {negation}NULL",
            f"{_value(choice, kind, depth, 'bool')} IS {negation}TRUE",
            f"NOT {_value(choice, kind, depth, 'bool')}",
        )
    )


def _calls(choice: random.Random, kind: str) -> str:
    return _test(choice, kind, choice.choice((0, 1, 1, 2)))


def _pairs(choice: random.Random, kind: str) -> str:
    """Operators in a row without parentheses, so that how they bind matters."""
    values = [choice.choice((*_INTS[:6], "id", "properties.i.int_value")) for _ in range(4)]
    row = values[0]
    for value in values[1:]:
        row += f" {choice.choice(('+', '-', '*', '/', '|', '&', '<<', '>>'))} {value}"
    ending = choice.choice(
        ("= 1", "< 2", "BETWEEN -1 AND 1", "IN (0, 1, 2)", "IS NULL", "> 0 AND TRUE")
    )
    return f"{row} {ending}"


def _by_token(choice: random.Random, text: str) -> str:
    tokens = _TOKEN.findall(text)
    if not tokens:
        return choice.choice(_WORDS)
    place = choice.randrange(len(tokens))
    other = choice.randrange(len(tokens))
    roll = choice.randrange(8)
    if roll == 0:
        del tokens[place]
    elif roll == 1:
        tokens.insert(place, tokens[place])
    elif roll == 2:
        tokens[place], tokens[other] = tokens[other], tokens[place]
    elif roll == 3:
        tokens[place] = choice.choice(_WORDS)
    elif roll == 4:
        tokens.insert(place, f" {choice.choice(_WORDS)} ")
    elif roll == 5:
        tokens[place] = choice.choice((str.upper, str.lower, str.swapcase))(tokens[place])
    elif roll == 6:
        tokens[place] = choice.choice(
            (f"`{tokens[place]}`", f"({tokens[place]})", f"'{tokens[place]}'")
        )
    else:
        tokens[place] = choice.choice((*_INTS, *_FLOATS, *_STRINGS))
    return "".join(tokens)


def _by_character(choice: random.Random, text: str) -> str:
    place = choice.randrange(len(text) + 1)
    character = choice.choice(_CHARACTERS)
    roll = choice.randrange(3)
    if roll == 0:
        return text[:place] + text[place + 1 :]
    if roll == 1:
        return text[:place] + character + text[place:]
    return text[:place] + character + text[place + 1 :]
