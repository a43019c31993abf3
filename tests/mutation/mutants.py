"""One-change mutants of a module: what is changed, where, and into what."""

from __future__ import annotations

import ast
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from types import EllipsisType

_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Lt: "<=",
    ast.LtE: "<",
    ast.Gt: ">=",
    ast.GtE: ">",
    ast.Eq: "!=",
    ast.NotEq: "==",
    ast.Is: "is not",
    ast.IsNot: "is",
    ast.In: "not in",
    ast.NotIn: "in",
}
_OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "+",
    ast.FloorDiv: "*",
    ast.Div: "*",
    ast.Mod: "*",
    ast.LShift: ">>",
    ast.RShift: "<<",
    ast.BitAnd: "|",
    ast.BitOr: "&",
    ast.BitXor: "|",
}
_SILENT_CALLS = ("_LOGGER.", "logging.", "warnings.")
"""Statements that only say something are not removed: what they say is not a user's answer."""

_MEASURES = (
    "_MAX",
    "_SECONDS",
    "_EVERY",
    "_ROWS",
    "_WORKERS",
    "_THREADS",
    "READ_BYTES",
    "_RECORDS_MIN",
    "_PER_",
    "_CHUNK_BYTES",
    "_ROOM",
    "_MANY",
    "_USES_",
    "USES_MIN",
    "BLOCK_ROWS",
    "_CONFLICTS_BEFORE",
)


@dataclass(frozen=True)
class Mutant:
    """A module with the text from `start` to `end` (in characters) replaced.

    `line` and `last_line` are those of the statement that is changed, from 1. `is_imported` is true
    of what runs once, as the module is imported, whichever tests it matters to.
    """

    path: Path
    function: str
    is_imported: bool
    line: int
    last_line: int
    start: int
    end: int
    before: str
    after: str
    which: str = ""
    """Which one it is of those of its function that read alike: `(2 of 3)`."""

    @property
    def name(self) -> str:
        """What an entry of `accepted.txt` says of it: lines move, functions less."""
        return " ".join(f"{self.path} {self._what()}".split())

    def applied(self, source: str) -> str:
        return source[: self.start] + self.after + source[self.end :]

    def __str__(self) -> str:
        return " ".join(f"{self.path}:{self.line} in {self._what()}".split())

    def _what(self) -> str:
        return f"{self.function}: {self.before} -> {self.after} {self.which}"


def mutants_of(path: Path, source: str) -> list[Mutant]:
    """All mutants of a module, in the order of the text."""
    mutants = list(_Mutation(path, source).of_module())
    alike, before = Counter(mutant.name for mutant in mutants), Counter[str]()
    numbered = []
    for mutant in mutants:
        before[mutant.name] += 1
        which = f"({before[mutant.name]} of {alike[mutant.name]})"
        numbered.append(mutant if alike[mutant.name] == 1 else replace(mutant, which=which))
    return numbered


class _Mutation:
    def __init__(self, path: Path, source: str) -> None:
        self._path = path
        self._source = source
        lines = source.splitlines(keepends=True)
        self._line_starts = [0]
        for line in lines:
            self._line_starts.append(self._line_starts[-1] + len(line))
        self._lines = lines
        self._function = "the module"
        self._is_imported = True
        self._statement: ast.stmt | None = None

    def of_module(self) -> Iterator[Mutant]:
        yield from self._of_body(ast.parse(self._source).body)

    def _of_body(self, body: list[ast.stmt]) -> Iterator[Mutant]:
        for statement in body:
            yield from self._of_statement(statement)

    def _of_statement(self, statement: ast.stmt) -> Iterator[Mutant]:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            return
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            outer = self._function, self._is_imported
            if statement.name not in ("__repr__", "__str__"):
                self._function = statement.name
                self._is_imported &= isinstance(statement, ast.ClassDef)
                yield from self._of_body(statement.body)
            self._function, self._is_imported = outer
            return
        if isinstance(statement, ast.If) and "TYPE_CHECKING" in ast.unparse(statement.test):
            return
        if isinstance(statement, ast.Assign | ast.AnnAssign) and self._sets_a_measure(statement):
            return
        self._statement = statement
        yield from self._of_whole(statement)
        for field, value in ast.iter_fields(statement):
            if field in ("annotation", "returns", "type_comment"):
                continue
            for child in value if isinstance(value, list) else [value]:
                if isinstance(child, ast.stmt):
                    yield from self._of_statement(child)
                    self._statement = statement
                elif isinstance(child, ast.ExceptHandler | ast.match_case):
                    yield from self._of_body(child.body)
                elif isinstance(child, ast.AST) and not _only_says(statement):
                    yield from self._of_expression(child)

    def _sets_a_measure(self, statement: ast.Assign | ast.AnnAssign) -> bool:
        """Whether it is a constant that decides how fast something is, and not what is answered."""
        text = self._text(statement).split("=")[0]
        return self._function == "the module" and any(word in text for word in _MEASURES)

    def _of_whole(self, statement: ast.stmt) -> Iterator[Mutant]:
        """The statement left out, or its condition turned round."""
        text = self._text(statement)
        if isinstance(statement, ast.If | ast.While):
            yield self._replaced(statement.test, f"not ({self._text(statement.test)})")
        elif isinstance(statement, ast.With):
            # Only what is entered for its effect: a lock, a suppressed error.
            if all(item.optional_vars is None for item in statement.items):
                first, last = statement.items[0], statement.items[-1]
                start, end = self._span(first.context_expr)[0], self._span(last.context_expr)[1]
                yield self._mutant(start, end, "__import__('contextlib').nullcontext()")
        elif isinstance(statement, ast.Raise):
            yield self._replaced(statement, "pass")
        elif isinstance(statement, ast.Continue):
            yield self._replaced(statement, "break")
        elif isinstance(statement, ast.Break):
            yield self._replaced(statement, "continue")
        elif isinstance(statement, ast.Return):
            # None and False are one to those who ask whether something is so.
            if statement.value is not None and text not in ("return None", "return False"):
                yield self._replaced(statement, "return None")
        elif isinstance(statement, ast.Delete | ast.AugAssign) or (
            isinstance(statement, ast.Expr)
            and not _is_text(statement.value)
            and not text.startswith(_SILENT_CALLS)
        ):
            yield self._replaced(statement, "pass")

    def _of_expression(self, node: ast.AST) -> Iterator[Mutant]:
        if isinstance(node, ast.JoinedStr):
            return
        if isinstance(node, ast.Compare):
            left: ast.expr = node.left
            for operator, right in zip(node.ops, node.comparators, strict=True):
                yield from self._operator(left, right, _COMPARISONS[type(operator)])
                left = right
        elif isinstance(node, ast.BoolOp):
            word = "or" if isinstance(node.op, ast.And) else "and"
            for left, right in zip(node.values, node.values[1:], strict=False):
                yield from self._operator(left, right, word)
        elif isinstance(node, ast.BinOp) and type(node.op) in _OPERATORS:
            if not _is_text(node.left) and not _is_text(node.right):
                yield from self._operator(node.left, node.right, _OPERATORS[type(node.op)])
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not):
            yield self._replaced(node, f"({self._text(node.operand)})")
        elif isinstance(node, ast.IfExp):
            yield self._replaced(node.test, f"not ({self._text(node.test)})")
        elif isinstance(node, ast.Constant):
            yield from self._of_constant(node)
        elif isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg is not None and isinstance(keyword.value, ast.Constant):
                    continue
                if keyword.arg is not None and len(node.args) + len(node.keywords) > 1:
                    yield from self._without_keyword(node, keyword)
        for child in ast.iter_child_nodes(node):
            if isinstance(node, ast.arg | ast.AnnAssign) or isinstance(child, ast.arguments):
                continue
            yield from self._of_expression(child)

    def _of_constant(self, node: ast.Constant) -> Iterator[Mutant]:
        value = node.value
        if isinstance(value, bool):
            yield self._replaced(node, str(not value))
        elif isinstance(value, int):
            yield self._replaced(node, str(value + 1))
        elif isinstance(value, bytes) and value:
            yield self._replaced(node, repr(bytes([value[0] ^ 1]) + value[1:]))

    def _without_keyword(self, call: ast.Call, keyword: ast.keyword) -> Iterator[Mutant]:
        start, end = self._offset(keyword.lineno, keyword.col_offset), self._span(keyword.value)[1]
        call_end = self._span(call)[1]
        while end < call_end and self._source[end] in " \n,":
            end += 1
        yield self._mutant(start, end, "")

    def _operator(self, left: ast.expr, right: ast.expr, word: str) -> Iterator[Mutant]:
        """What stands between two operands, which may be in parentheses, replaced."""
        start, end = self._span(left)[1], self._span(right)[0]
        between = self._source[start:end]
        opening = between.rstrip()
        closing = between.lstrip()
        begin = start + len(between) - len(closing)
        finish = start + len(opening)
        text = self._source[begin:finish]
        if "#" in text or ("(" in text and ")" in text):
            return
        leading = len(text) - len(text.lstrip(") \n\\"))
        trailing = len(text) - len(text.rstrip("( \n\\"))
        yield self._mutant(begin + leading, finish - trailing, word)

    def _replaced(self, node: ast.AST, after: str) -> Mutant:
        return self._mutant(*self._span(node), after)

    def _mutant(self, start: int, end: int, after: str) -> Mutant:
        statement = self._statement
        assert statement is not None
        last = statement.end_lineno or statement.lineno
        bodies = [child for child in ast.iter_child_nodes(statement) if isinstance(child, ast.stmt)]
        if bodies:
            last = max(statement.lineno, min(child.lineno for child in bodies) - 1)
        return Mutant(
            self._path,
            self._function,
            self._is_imported,
            self._source.count("\n", 0, start) + 1,
            last,
            start,
            end,
            self._source[start:end],
            after,
        )

    def _text(self, node: ast.AST) -> str:
        start, end = self._span(node)
        return self._source[start:end]

    def _span(self, node: ast.AST) -> tuple[int, int]:
        assert isinstance(node, ast.stmt | ast.expr)
        assert node.end_lineno is not None
        assert node.end_col_offset is not None
        return (
            self._offset(node.lineno, node.col_offset),
            self._offset(node.end_lineno, node.end_col_offset),
        )

    def _offset(self, line: int, column: int) -> int:
        """The character at a line and a column in bytes, as the parser tells them."""
        text = self._lines[line - 1].encode()[:column].decode()
        return self._line_starts[line - 1] + len(text)


def _only_says(statement: ast.stmt) -> bool:
    """Whether it is an error's text, a docstring, or the body of a protocol's method."""
    return isinstance(statement, ast.Raise) or (
        isinstance(statement, ast.Expr) and _is_text(statement.value)
    )


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.JoinedStr) or (
        isinstance(node, ast.Constant) and isinstance(node.value, str | EllipsisType)
    )
