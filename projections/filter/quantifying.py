"""Which neighbours a condition has to join: each of the others is looked for by itself.

A filter holds for a node if some choice of a row for each neighbour makes the whole true. In a
join, a node's rows under one alias meet all those under each other alias, so that their numbers
multiply. But "some row" can be said of the parts of an OR, and of those of an AND that name no
alias in common. To say so, NOT is moved to the comparisons, and an AND over an OR is distributed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from eventstore.projections.filter.filter_sql import Join, SemiJoin, having
from eventstore.projections.filter.schema import Typed

DISTRIBUTED_MAX: Final = 16
"""Parts of OR that an AND is distributed over; what remains is joined."""
DISTRIBUTED_BYTES_MAX: Final = 64 * 1024

TRUE, FALSE, NOT_TRUE, NOT_FALSE = "TRUE", "FALSE", "NOT TRUE", "NOT FALSE"
"""What a condition of three values is asked to be. The answer is either true or not."""

_OPPOSITE: Final = {TRUE: FALSE, FALSE: TRUE, NOT_TRUE: NOT_FALSE, NOT_FALSE: NOT_TRUE}
_DUAL: Final = {"AND": "OR", "OR": "AND"}


@dataclass(frozen=True, slots=True)
class _Formula:
    """A condition that names some aliases; AND or OR of parts, or one that is not taken apart.

    `names_node` says whether it names the node itself, too.
    """

    sql: str
    aliases: frozenset[str]
    names_node: bool
    word: str = ""
    parts: tuple[_Formula, ...] = ()


def quantified(
    root: Typed, joins: Mapping[str, tuple[Join, ...]]
) -> tuple[str, tuple[SemiJoin, ...]]:
    """The condition on a node, in which `having(0)` says that the first of the semi-joins finds it.

    `joins` lead to a filter's neighbours, by alias, and to all else that it names.
    """
    quantifier = _Quantifier(joins, root.names.aliases)
    condition, sure = quantifier.exists(_formula(root, TRUE))
    for chain in quantifier.unsure_chains(sure):
        condition = f"({condition} AND {quantifier.having([chain], 'true')})"
    return condition, tuple(quantifier.semi_joins)


def _formula(typed: Typed, wanted: str) -> _Formula:
    """A condition rewritten to what is wanted of it, as far as it has to be taken apart."""
    names = typed.names
    if len(names.aliases) > 1 or (names.aliases and names.node):
        match typed.logic:
            case "AND" | "OR":
                parts = [_formula(operand, wanted) for operand in typed.operands]
                is_as_said = wanted in (TRUE, NOT_FALSE)
                return _junction(typed.logic if is_as_said else _DUAL[typed.logic], parts)
            case "NOT":
                return _formula(typed.operands[0], _OPPOSITE[wanted])
            case "IS TRUE" | "IS FALSE":
                # Never unknown: what is not true is false.
                found = typed.logic.removeprefix("IS ")
                is_as_said = wanted in (TRUE, NOT_FALSE)
                return _formula(typed.operands[0], found if is_as_said else f"NOT {found}")
    sql = {
        TRUE: typed.sql,
        FALSE: f"(NOT {typed.sql})",
        NOT_TRUE: f"({typed.sql}::BOOLEAN IS DISTINCT FROM true)",
        NOT_FALSE: f"({typed.sql}::BOOLEAN IS DISTINCT FROM false)",
    }[wanted]
    return _Formula(sql, names.aliases, names.node)


def _junction(word: str, parts: Iterable[_Formula]) -> _Formula:
    """AND or OR; what is said of one and the same alias, or of none, stays together."""
    alike: dict[frozenset[str], list[_Formula]] = {}
    others: list[_Formula] = []
    for part in parts:
        for member in part.parts if part.word == word else (part,):
            is_of_one = len(member.aliases) <= 1 and not member.word
            (alike.setdefault(member.aliases, []) if is_of_one else others).append(member)
    grouped = [_joined(word, group) for group in alike.values()]
    found = [*(replace(group, word="", parts=()) for group in grouped), *others]
    return found[0] if len(found) == 1 else _joined(word, found)


def _joined(word: str, parts: Sequence[_Formula]) -> _Formula:
    if len(parts) == 1:
        return parts[0]
    sql = f"({f' {word} '.join(part.sql for part in parts)})"
    return _Formula(
        sql,
        frozenset().union(*(part.aliases for part in parts)),
        any(part.names_node for part in parts),
        word,
        tuple(parts),
    )


@dataclass
class _Quantifier:
    """Writes conditions on nodes; collects the semi-joins that they name."""

    joins: Mapping[str, tuple[Join, ...]]
    aliases: frozenset[str]
    semi_joins: list[SemiJoin] = field(default_factory=list)
    distributed: int = 0
    distributed_bytes: int = 0

    def exists(self, formula: _Formula) -> tuple[str, frozenset[str]]:
        """The condition that some rows make it true, and the aliases that then have rows."""
        if not formula.aliases:
            return formula.sql, frozenset()
        if formula.word == "OR":
            return self._combined("OR", formula.parts, frozenset.intersection)
        if formula.word == "AND":
            components = _components(formula.parts)
            if len(components) > 1:
                together = [_joined("AND", component) for component in components]
                return self._combined("AND", together, frozenset.union)
        if len(formula.aliases) == 1:
            (alias,) = formula.aliases
            return self.having([self._chain(alias)], formula.sql), formula.aliases
        distributed = self._distributed(formula) if formula.word == "AND" else None
        if distributed is not None:
            return self.exists(distributed)
        return self._having_together(formula), formula.aliases

    def _having_together(self, formula: _Formula) -> str:
        """The condition that neighbours of several aliases together make it true."""
        parts = formula.parts if formula.word == "AND" else (formula,)
        alone = {id(part) for part in parts if len(part.aliases) == 1 and not part.names_node}
        tests: dict[str, str] = {}
        rest = [self._tested(part, tests) for part in parts if id(part) not in alone]
        of_chain = {
            alias: [part.sql for part in parts if id(part) in alone and alias in part.aliases]
            for alias in sorted(formula.aliases)
        }
        return self.having(
            [self._chain(alias) for alias in of_chain],
            f"({' AND '.join(rest)})",
            tuple(" AND ".join(conditions) or "true" for conditions in of_chain.values()),
            tuple(tests.items()),
        )

    def _tested(self, formula: _Formula, tests: dict[str, str]) -> str:
        """Its SQL, in which a condition on one neighbour is only whether it holds."""
        if len(formula.aliases) == 1 and not formula.names_node:
            (alias,) = formula.aliases
            test = f"{self.joins[alias][-1].alias}.test_{len(tests)}"
            tests[test] = f"coalesce({formula.sql}, false)"
            return test
        if not formula.word:
            return formula.sql
        return f"({f' {formula.word} '.join(self._tested(part, tests) for part in formula.parts)})"

    def _combined(
        self,
        word: str,
        parts: Iterable[_Formula],
        combine: Callable[..., frozenset[str]],
    ) -> tuple[str, frozenset[str]]:
        texts, sure = zip(*(self.exists(part) for part in parts), strict=True)
        return f"({f' {word} '.join(texts)})", combine(*sure)

    def _distributed(self, formula: _Formula) -> _Formula | None:
        """An AND as an OR of ANDs; None where it has none, or that would say too much."""
        choices = [part for part in formula.parts if part.word == "OR"]
        if not choices:
            return None
        chosen = min(choices, key=lambda part: len(part.parts))
        rest = [part for part in formula.parts if part is not chosen]
        self.distributed += len(chosen.parts)
        self.distributed_bytes += len(chosen.parts) * sum(len(part.sql) for part in rest)
        if self.distributed > DISTRIBUTED_MAX or self.distributed_bytes > DISTRIBUTED_BYTES_MAX:
            return None
        return _junction("OR", [_junction("AND", [*rest, part]) for part in chosen.parts])

    def having(
        self,
        chains: Sequence[tuple[Join, ...]],
        condition: str,
        of_chains: tuple[str, ...] = (),
        tests: tuple[tuple[str, str], ...] = (),
    ) -> str:
        of_node = tuple(
            join
            for key, joins in self.joins.items()
            if key not in self.aliases and key.removesuffix(" type") not in self.aliases
            for join in joins
            if f"{join.alias}." in condition
        )
        semi_join = SemiJoin(tuple(chains), of_node, condition, of_chains, tests)
        if semi_join not in self.semi_joins:
            self.semi_joins.append(semi_join)
        return having(self.semi_joins.index(semi_join))

    def _chain(self, alias: str) -> tuple[Join, ...]:
        return (*self.joins[alias], *self.joins.get(f"{alias} type", ()))

    def unsure_chains(self, sure: Iterable[str]) -> Iterable[tuple[Join, ...]]:
        """What leads to each sort of neighbour that need not be there for the condition."""
        known = {_sort(self._chain(alias)) for alias in sure}
        for alias in sorted(self.aliases):
            chain = self._chain(alias)
            if _sort(chain) not in known:
                known.add(_sort(chain))
                yield chain


def _sort(chain: tuple[Join, ...]) -> tuple[tuple[str, str | None], ...]:
    return tuple((join.table, join.node_key) for join in chain)


def _components(parts: Iterable[_Formula]) -> list[list[_Formula]]:
    """Parts that name an alias in common, perhaps by way of others, together."""
    found: list[tuple[frozenset[str], list[_Formula]]] = []
    for part in parts:
        aliases, together, others = part.aliases, [part], []
        for names, members in found:
            if names & part.aliases:
                aliases, together = aliases | names, [*members, *together]
            else:
                others.append((names, members))
        found = [*others, (aliases, together)]
    return [members for _, members in found]
