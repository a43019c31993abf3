"""Random expressions of the filter language by type: operators, functions and lexical forms."""

from __future__ import annotations

import random
from collections.abc import Callable

from tests.differential.filters import ENUMS, LITERALS, NEIGHBOURS, NODE, PROPERTIES

INT, FLOAT, STRING, BOOL = "int", "float", "string", "bool"

_BLANKS = (" ", "  ", "\n", "\t", " /* c */ ", " -- c\n", " # c\n")
_TRICKY_STRINGS = (
    "r'n%'",
    '"""n1"""',
    "'''s3://a'''",
    r"'\x6e1'",
    r"'n\u0031'",
    r"'it\'s'",
    "'ä%'",
    "'Ä'",
    "' n1 '",
    "'12'",
    "'-3.5x'",
    "'1e2'",
)


def random_expression(choice: random.Random, kind: str, depth: int = 3) -> str:
    """A condition on nodes of a kind; nearly always one that upstream can compute."""
    return _Writer(choice, kind).boolean(depth)


_DIGITS = ("'0'", "'1'", "'2'", "'-1'", "'10'")


class _Writer:
    def __init__(self, choice: random.Random, kind: str) -> None:
        self._choice = choice
        self._kind = kind
        self._has_enum = False

    def _pick(self, *forms: Callable[[], str]) -> str:
        return self._choice.choice(forms)()

    def _of(self, value_type: str, depth: int) -> str:
        return {INT: self.integer, FLOAT: self.double, STRING: self.string, BOOL: self.boolean}[
            value_type
        ](depth)

    def _word(self, word: str) -> str:
        """A keyword or a function's name in any case."""
        return self._choice.choice((word, word.lower(), word.capitalize()))

    def _call(self, name: str, *arguments: str) -> str:
        return f"{self._word(name)}({', '.join(arguments)})"

    def _columns(self, value_type: str) -> list[str]:
        names = [name for name, its in NODE[self._kind].items() if its == value_type]
        names += [name for name, its in PROPERTIES if its == value_type]
        if value_type != BOOL and value_type != FLOAT and self._choice.random() < 0.2:
            names += [
                name
                for name in NEIGHBOURS[self._kind]
                if (INT if name.endswith("id") else STRING) == value_type
            ]
        return names

    def _leaf(self, value_type: str) -> str:
        columns = self._columns(value_type)
        if columns and self._choice.random() < 0.6:
            return self._choice.choice(columns)
        return self._choice.choice(LITERALS[value_type])

    def _shared(self, value_type: str, depth: int) -> list[Callable[[], str]]:
        """Forms that every type of value has."""

        def searched() -> str:
            condition, then, otherwise = self.boolean(depth), *self._two(value_type, depth)
            return f"CASE WHEN {condition} THEN {then} ELSE {otherwise} END"

        def simple() -> str:
            subject, match = self._two(INT, depth)
            then, otherwise = self._two(value_type, depth)
            return f"CASE {subject} WHEN {match} THEN {then} ELSE {otherwise} END"

        def without_else() -> str:
            return f"CASE WHEN {self.boolean(depth)} THEN {self._of(value_type, depth)} END"

        return [
            searched,
            simple,
            without_else,
            lambda: self._call("COALESCE", *self._two(value_type, depth)),
            lambda: self._call("IFNULL", *self._two(value_type, depth)),
            lambda: self._call("NULLIF", *self._two(value_type, depth)),
            lambda: f"({self._of(value_type, depth)})",
        ]

    def _two(self, value_type: str, depth: int) -> tuple[str, str]:
        return self._of(value_type, depth), self._of(value_type, depth)

    def integer(self, depth: int) -> str:
        if depth <= 0 or self._choice.random() < 0.4:
            return self._leaf(INT)
        depth -= 1

        def arithmetic() -> str:
            left, right = self._two(INT, depth)
            return f"({left} {self._choice.choice('+-*&|')} {right})"

        return self._pick(
            arithmetic,
            arithmetic,
            lambda: f"({self.integer(depth)} << {self._choice.randrange(4)})",
            lambda: f"({self.integer(depth)} >> {self._choice.randrange(4)})",
            lambda: f"(~{self.integer(0)})",
            lambda: f"(-{self.integer(0)})",
            lambda: self._call("LENGTH", self.string(depth)),
            lambda: self._call("ABS", self.integer(depth)),
            lambda: self._call("SIGN", self.integer(depth)),
            lambda: f"CAST({self.string(depth)} AS INT64)",
            lambda: f"CAST({self.double(depth)} AS INT64)",
            lambda: f"CAST({self.boolean(depth)} AS INT64)",
            *self._shared(INT, depth),
        )

    def double(self, depth: int) -> str:
        if depth <= 0 or self._choice.random() < 0.4:
            return self._leaf(FLOAT)
        depth -= 1

        def arithmetic() -> str:
            left, right = self.double(depth), self._of(self._choice.choice((INT, FLOAT)), depth)
            return f"({left} {self._choice.choice('+-*/')} {right})"

        return self._pick(
            arithmetic,
            lambda: f"({self.integer(depth)} / {self.integer(depth)})",
            lambda: self._call("ABS", self.double(depth)),
            lambda: self._call("SIGN", self.double(depth)),
            lambda: self._call("ROUND", self.double(depth)),
            lambda: f"CAST({self.integer(depth)} AS FLOAT64)",
            lambda: f"CAST({self.string(depth)} AS FLOAT64)",
            *self._shared(FLOAT, depth),
        )

    def string(self, depth: int) -> str:
        if depth <= 0 or self._choice.random() < 0.4:
            if self._choice.random() < 0.15:
                return self._choice.choice(_TRICKY_STRINGS)
            return self._leaf(STRING)
        depth -= 1
        number = str(self._choice.randrange(-3, 5))
        return self._pick(
            lambda: self._call("LOWER", self.string(depth)),
            lambda: self._call("UPPER", self.string(depth)),
            lambda: self._call("SUBSTR", self.string(depth), number),
            lambda: self._call("SUBSTR", self.string(depth), number, self._choice.choice("0123")),
            lambda: self._call("TRIM", self.string(depth)),
            lambda: self._call("LTRIM", self.string(depth), "'ns'"),
            lambda: self._call("RTRIM", self.string(depth), "'1/'"),
            lambda: self._call("REPLACE", self.string(depth), "'n'", self.string(0)),
            lambda: self._call("FORMAT", "'%d'", self.integer(depth)),
            *self._shared(STRING, depth),
        )

    def boolean(self, depth: int) -> str:
        if depth <= 0:
            return self._test(0)
        depth -= 1

        def junction() -> str:
            parts = [self.boolean(depth) for _ in range(self._choice.randrange(2, 4))]
            joined = parts[0]
            for part in parts[1:]:
                blank = self._choice.choice(_BLANKS)
                joined += f"{blank}{self._word(self._choice.choice(('AND', 'OR')))}{blank}{part}"
            return joined if self._choice.random() < 0.5 else f"({joined})"

        return self._pick(
            junction,
            lambda: f"NOT {self._test(depth)}",
            lambda: f"NOT ({self.boolean(depth)})",
            lambda: f"({self._test(depth)}) IS {self._choice.choice(('', 'NOT '))}TRUE",
            lambda: f"({self._test(depth)}) IS {self._choice.choice(('', 'NOT '))}FALSE",
            lambda: f"({self.boolean(depth)})",
            lambda: self._test(depth),
            lambda: self._test(depth),
        )

    def _test(self, depth: int) -> str:
        """A comparison, or what else is true or false."""
        if self._kind in ENUMS and not self._has_enum and self._choice.random() < 0.08:
            # Once: upstream stumbles over a second one in a query (contract Q17).
            self._has_enum = True
            column, names = ENUMS[self._kind]
            return self._choice.choice(
                (f"{column} IN ({', '.join(names[:2])})", f"{column} NOT IN ({names[0]})")
            )
        value_type = self._choice.choice((INT, INT, FLOAT, STRING, STRING))
        negation = self._choice.choice(("", "NOT "))

        def comparison() -> str:
            other = self._choice.choice((INT, FLOAT)) if value_type in (INT, FLOAT) else value_type
            operator = self._choice.choice(("=", "!=", "<>", "<", "<=", ">", ">="))
            return f"{self._of(value_type, depth)} {operator} {self._of(other, depth)}"

        def membership() -> str:
            members = [self._of(value_type, 0) for _ in range(self._choice.randrange(1, 4))]
            if self._choice.random() < 0.2:
                members.append("NULL")
            return f"{self._of(value_type, depth)} {negation}IN ({', '.join(members)})"

        def between() -> str:
            low, high = self._two(value_type, 0)
            return f"{self._of(value_type, depth)} {negation}BETWEEN {low} AND {high}"

        def like() -> str:
            pattern = self._choice.choice((*LITERALS[STRING], "'%a%'", "'N_'", "'_%_'", "'s3:%'"))
            return f"{self.string(depth)} {negation}LIKE {pattern}"

        def as_string() -> str:
            # By equality alone: SQLite takes the type STRING for a number, and orders it so.
            number = self._pick(lambda: self.integer(depth), lambda: f"({self.boolean(depth)})")
            return f"CAST({number} AS STRING) = {self._choice.choice(_DIGITS)}"

        return self._pick(
            comparison,
            comparison,
            as_string,
            membership,
            between,
            like,
            lambda: f"{self._of(value_type, depth)} IS {negation}NULL",
            lambda: self._choice.choice(self._columns(BOOL) or ["TRUE"]),
        )
