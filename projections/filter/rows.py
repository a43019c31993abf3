"""Reads tokens into rows of operands and operators, from the innermost parentheses outwards.

Each opened parenthesis, list, call and CASE is a level of a stack of its own. When it closes, what
it holds is compiled, and is one operand of the row around it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from eventstore.projections.filter.evaluation import constant
from eventstore.projections.filter.parsing import BETWEEN, COMPARISON, steps_of
from eventstore.projections.filter.schema import (
    BOOL,
    FLOAT64,
    INT64,
    LIST,
    NULL,
    TEST,
    Literal,
    Typed,
)
from eventstore.projections.filter.tokens import (
    FLOAT,
    FORMAT,
    INT,
    INT64_END,
    INT64_END_LITERAL,
    NUMBER,
    OPERATOR,
    PROPERTY,
    QUOTED,
    STRING,
    WORD,
    Token,
    refused,
)

if TYPE_CHECKING:
    from eventstore.projections.filter.compiler import Compiler

_COMPARISONS: Final = frozenset(("=", "!=", "<>", "<", "<=", ">", ">="))
_ARITHMETIC: Final = frozenset(("+", "-", "*", "/", "|", "&", "<<", ">>"))
_SIGNS: Final = frozenset("+-~")
_TESTS: Final = frozenset(("NULL", "TRUE", "FALSE", "UNKNOWN"))
_NEGATED: Final = frozenset(("IN", "LIKE", BETWEEN))
_KEYWORDS: Final = frozenset(
    (
        *("AND", "OR", "IN", "LIKE", "BETWEEN", "IS", "WHEN", "THEN", "ELSE", "END", "AS"),
        *("FROM", "CAST", "DISTINCT", "EXISTS"),
    )
)
_LITERALS: Final = frozenset((INT, FLOAT, STRING, NUMBER, FORMAT))
LONG_LIST: Final = 64
"""From how many literals a list is one parameter: each parameter costs the database time."""
_END: Final = Token(OPERATOR, "")


@dataclass
class _Row:
    """Operands, and the operators between them."""

    compiler: Compiler
    operands: list[Typed] = field(default_factory=list)
    shape: list[str] = field(default_factory=list)
    comparisons: dict[int, str] = field(default_factory=dict)
    """Which comparison is before the operand of an index."""
    signs: list[str] = field(default_factory=list)
    conjuncts: list[Typed] = field(default_factory=list)
    disjuncts: list[Typed] = field(default_factory=list)
    negations: int = 0
    betweens: int = 0
    """Those whose AND is still to come."""
    wants_operand: bool = True

    def is_empty(self) -> bool:
        return self.wants_operand and not (
            self.shape or self.signs or self.conjuncts or self.disjuncts or self.negations
        )

    def awaits_list(self) -> bool:
        return self.comparisons.get(len(self.operands), "").endswith("IN")

    def add(self, operand: Typed) -> None:
        if (operand.type == LIST) is not self.awaits_list():
            raise refused("Syntax error: expected a list in parentheses after IN")
        while self.signs:
            operand = self.compiler.operator(self.signs.pop(), [operand])
        self.shape.append(f"o{len(self.operands)}")
        self.operands.append(operand)
        self.wants_operand = False

    def negate(self) -> None:
        if self.shape or self.signs:
            raise refused("Syntax error: NOT cannot stand there, put it in parentheses")
        self.negations += 1

    def compare(self, word: str) -> None:
        self.comparisons[len(self.operands)] = word
        is_between = word.endswith(BETWEEN)
        self.betweens += is_between
        self.join(BETWEEN if is_between else COMPARISON)

    def join(self, word: str) -> None:
        self.shape.append(word)
        self.wants_operand = True

    def junction(self, word: str) -> None:
        """AND or OR, unless it is the AND of a BETWEEN."""
        if self.betweens:
            self.betweens -= 1
            self.join(word)
            return
        self._end_conjunct()
        if word == "OR":
            self._end_disjunct()
        self.wants_operand = True

    def finished(self) -> Typed:
        if self.wants_operand or self.betweens:
            raise refused("Syntax error: Unexpected end of expression, a value is missing")
        self._end_conjunct()
        self._end_disjunct()
        disjuncts = self.disjuncts
        return disjuncts[0] if len(disjuncts) == 1 else self.compiler.operator("OR", disjuncts)

    def _end_conjunct(self) -> None:
        conjunct = self.operands[0] if len(self.operands) == 1 else self._computed()
        if conjunct.type == TEST:
            raise refused("Syntax error: IS without what it tests")
        # Any even number of them means the same as two.
        for _ in range(2 - self.negations % 2 if self.negations else 0):
            conjunct = self.compiler.operator("NOT", [conjunct])
        self.conjuncts.append(conjunct)
        self.operands, self.shape, self.comparisons, self.negations = [], [], {}, 0

    def _end_disjunct(self) -> None:
        conjuncts = self.conjuncts
        self.disjuncts.append(
            conjuncts[0] if len(conjuncts) == 1 else self.compiler.operator("AND", conjuncts)
        )
        self.conjuncts = []

    def _computed(self) -> Typed:
        stack: list[Typed] = []
        for step in steps_of(" ".join(self.shape)):
            if step.operator is None:
                stack.append(self.operands[step.operand])
                continue
            count = 3 if step.operator == BETWEEN else 2
            taken = stack[-count:]
            del stack[-count:]
            word = step.operator
            if word in (COMPARISON, BETWEEN):
                word = self.comparisons[step.operand]
            stack.append(self.compiler.operator(word, taken))
        (computed,) = stack
        return computed


@dataclass
class _Level:
    """What has been opened and not yet closed: "" is the whole, otherwise (, IN, CASE or a call."""

    opened: str
    row: _Row
    parts: list[Typed] = field(default_factory=list)
    words: list[str] = field(default_factory=list)
    """The words of a CASE before its parts, "" for its subject."""
    type_name: str | None = None
    """The type that a CAST gives."""


class Rows:
    """Reads the tokens of a filter once, from left to right."""

    def __init__(self, compiler: Compiler, tokens: tuple[Token, ...]) -> None:
        self._compiler = compiler
        self._tokens = tokens
        self._next = 0
        self._levels = [_Level("", _Row(compiler))]

    def read(self) -> Typed:
        while self._next < len(self._tokens):
            token = self._take()
            if self._levels[-1].row.wants_operand:
                self._read_operand(token)
            else:
                self._read_operator(token)
        if len(self._levels) > 1:
            raise refused("Syntax error: a ( without its ), or a CASE without its END, at the end")
        return self._levels[-1].row.finished()

    def _take(self) -> Token:
        token = self._peek()
        self._next += 1
        return token

    def _peek(self) -> Token:
        return self._tokens[self._next] if self._next < len(self._tokens) else _END

    def _open(self, opened: str) -> _Level:
        level = _Level(opened, _Row(self._compiler))
        self._levels.append(level)
        return level

    # Operands

    def _read_operand(self, token: Token) -> None:
        level, row = self._levels[-1], self._levels[-1].row
        kind, value = token
        if kind == OPERATOR:
            self._read_sign_or_parenthesis(level, value)
        elif kind == PROPERTY:
            self._add(self._compiler.property(*value))
        elif kind == WORD and value.upper() in ("NOT", "CASE", "WHEN", "NULL", "TRUE", "FALSE"):
            self._read_word(level, value.upper())
        elif kind in (WORD, QUOTED):
            self._read_name(token)
        elif kind == INT64_END_LITERAL and row.signs[-1:] == ["-"]:
            row.signs.pop()
            self._add(self._compiler.literal_of(Literal(None, -INT64_END), INT64))
        else:
            literal = self._compiler.literal(token)
            if literal.type in (INT64, FLOAT64) and row.signs[-1:] == ["-"]:
                # Right before a number it is part of the literal, anywhere else an operator.
                row.signs.pop()
                literal = self._compiler.negative(literal)
            self._add(literal)

    def _read_sign_or_parenthesis(self, level: _Level, value: str) -> None:
        row = level.row
        if value in _SIGNS:
            row.signs.append(value)
        elif value == "(":
            if not row.awaits_list() or row.signs:
                self._open("(")
            elif not self._read_long_list(row):
                self._open("IN")
        elif value == ")" and level.opened.endswith("()") and row.is_empty() and not level.parts:
            self._close()
        else:
            raise refused(f"Syntax error: unexpected {value!r} where a value is wanted")

    def _read_long_list(self, row: _Row) -> bool:
        """Take a list of very many literals at once; False when it is none."""
        place, tokens = self._next, self._tokens
        while place + 1 < len(tokens) and tokens[place].kind in _LITERALS:
            if tokens[place + 1] == (OPERATOR, ")"):
                members = tokens[self._next : place + 1 : 2]
                if len(members) < LONG_LIST:
                    return False
                self._next = place + 2
                row.add(self._compiler.long_list(members))
                return True
            if tokens[place + 1] != (OPERATOR, ","):
                return False
            place += 2
        return False

    def _read_word(self, level: _Level, word: str) -> None:
        row = level.row
        if word == "NOT":
            row.negate()
        elif word == "CASE":
            self._open("CASE")
        elif word == "WHEN":
            if level.opened != "CASE" or level.words or not row.is_empty():
                raise refused("Syntax error: unexpected WHEN")
            level.words.append(word)
        elif word == "NULL":
            self._add(Typed("NULL", NULL, evaluate=constant(None)))
        else:
            truth = word == "TRUE"
            self._add(
                Typed(word.lower(), BOOL, evaluate=constant(truth), literal=Literal(None, truth))
            )

    def _read_name(self, token: Token) -> None:
        name: str = token.value
        upper = name.upper() if token.kind == WORD else ""
        if upper == "SELECT":
            raise refused("a subquery is not supported in a filter: list the values")
        if self._peek() == (OPERATOR, "(") and (upper == "CAST" or upper not in _KEYWORDS):
            self._take()
            # The name of a function may be quoted, but not CAST.
            self._open("CAST" if upper == "CAST" else f"{name}()")
        elif upper in _KEYWORDS:
            raise refused(f"Syntax error: unexpected {upper} where a value is wanted")
        else:
            self._add(self._compiler.name(name))

    def _add(self, operand: Typed) -> None:
        """Add an operand with the fields that are asked of it."""
        while self._peek() == (OPERATOR, "."):
            self._take()
            kind, name = self._take()
            if kind not in (WORD, QUOTED):
                if name == "":
                    raise refused("Syntax error: Unexpected end of expression after a .")
                raise refused("Syntax error: expected the name of a field after a .")
            operand = self._compiler.field(operand, name)
        self._levels[-1].row.add(operand)

    # Operators

    def _read_operator(self, token: Token) -> None:
        level, row = self._levels[-1], self._levels[-1].row
        kind, value = token
        word = value.upper() if kind == WORD else value if kind == OPERATOR else ""
        if word in _COMPARISONS:
            row.compare("!=" if word == "<>" else word)
        elif word in _ARITHMETIC:
            row.join(word)
        elif word in ("AND", "OR"):
            if word == "OR" and row.betweens:
                raise refused("Syntax error: expected the AND of a BETWEEN, not OR")
            row.junction(word)
        elif word == "NOT" and self._peek_word() in _NEGATED:
            row.compare(f"NOT {self._take().value.upper()}")
        elif word in _NEGATED:
            row.compare(word)
        elif word == "IS":
            self._read_test(row)
        elif word == ",":
            self._end_part(level)
        elif word == ")":
            self._end_part(level)
            self._close()
        elif level.opened == "CASE" and word in ("WHEN", "THEN", "ELSE", "END"):
            self._read_case_word(level, word)
        elif level.opened == "CAST" and word == "AS" and not level.parts:
            self._end_part(level)
            kind, name = self._take()
            if kind not in (WORD, QUOTED) or self._take() != (OPERATOR, ")"):
                raise refused("Syntax error: expected a type and ) after AS")
            level.type_name = name
            self._close()
        else:
            raise refused(f"Syntax error: unexpected {_shown(token)} where an operator is wanted")

    def _peek_word(self) -> str:
        kind, value = self._peek()
        return value.upper() if kind == WORD else ""

    def _read_test(self, row: _Row) -> None:
        is_negated = self._peek_word() == "NOT"
        if is_negated:
            self._take()
        tested = self._peek_word()
        if tested not in _TESTS:
            raise refused("Syntax error: expected NULL, TRUE, FALSE or UNKNOWN after IS")
        self._take()
        row.compare("IS NOT" if is_negated else "IS")
        row.add(Typed("NULL" if tested == "UNKNOWN" else tested, TEST, alias=tested))

    def _end_part(self, level: _Level) -> None:
        """A comma, or the end of what has been opened."""
        if level.opened in ("", "CASE"):
            raise refused("Syntax error: a , or ) without its (")
        if level.opened == "CAST" and level.parts:
            raise refused("Syntax error: CAST takes one value")
        level.parts.append(level.row.finished())
        level.row = _Row(self._compiler)

    def _read_case_word(self, level: _Level, word: str) -> None:
        before = level.words[-1] if level.words else ""
        follows = {"": ("WHEN",), "WHEN": ("THEN",), "THEN": ("WHEN", "ELSE", "END")}
        if word not in follows.get(before, ("END",)):
            raise refused(f"Syntax error: unexpected {word} in a CASE")
        level.parts.append(level.row.finished())
        level.row = _Row(self._compiler)
        if not level.words:
            level.words.append("")
        level.words.append(word)
        if word == "END":
            self._close()

    def _close(self) -> None:
        """Make one operand of what has been opened last."""
        level = self._levels.pop()
        compiler, parts = self._compiler, level.parts
        if level.opened == "":
            raise refused("Syntax error: a ) without its (")
        if level.opened == "IN":
            self._levels[-1].row.add(compiler.list_of(parts))
            return
        if level.opened == "(":
            if len(parts) != 1:
                raise refused("Syntax error: several values in parentheses, but not after IN")
            self._add(parts[0])
        elif level.opened == "CASE":
            self._add(_case(compiler, level))
        elif level.opened == "CAST":
            if level.type_name is None:
                raise refused("Syntax error: expected AS and a type in CAST")
            self._add(compiler.cast(parts[0], level.type_name))
        else:
            self._add(compiler.call(level.opened.removesuffix("()"), parts))


def _case(compiler: Compiler, level: _Level) -> Typed:
    words, parts = level.words[:-1], list(level.parts)
    subject = parts.pop(0) if words[0] == "" else None
    default = parts.pop() if words[-1] == "ELSE" else None
    branches = list(zip(parts[::2], parts[1::2], strict=True))
    return compiler.case(subject, branches, default)


def _shown(token: Token) -> str:
    if token.kind in (OPERATOR, WORD, QUOTED):
        return repr(token.value)
    if token.kind in (STRING, FORMAT):
        return "string"
    return "property" if token.kind == PROPERTY else "number"
