"""Random texts of filters, right and wrong ones, for as long as one wants.

`python -m tests.differential.texts --texts 20000` asks both packages for them on small stores of
odd values, and this one in all of its ways; it prints how many there were, or the first difference
in its shortest form.
"""

from __future__ import annotations

import argparse
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from typing import Any, Final
from unittest.mock import patch

from rich.console import Console
from rich.progress import Progress

from eventstore import errors
from eventstore.projections.filter import compile_filter, compiler, functions, lexing, operators
from eventstore.projections.listing import Listing, NodeIds
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.builders import NODE_KINDS
from tests.differential.casts import without_casts
from tests.differential.clients import Client, OurStore
from tests.differential.messages import KINDS
from tests.differential.mutations import random_text
from tests.differential.oracle import Oracle
from tests.differential.reads import outcome

TEXTS_PER_STORE: Final = 500

_NAMES: Final = (
    None, "n1", "N1", "n2", "12", " 7 ", "-3.5x", "true", "ä", "Ä", "e\u0301", "\U0001f600b", "%",
    "a\\b", "\u00a0a\t", "'", "1e2", "_", "0x1F", "9" * 20, ".5",
)  # fmt: skip
_INTS: Final = (0, 1, -1, 2, 7, 63, 64, 2**53 + 1, 2**63 - 1, -(2**63), 2**62)
_DOUBLES: Final = (0.0, 1.5, -1.5, 2.5, 0.5, -0.5, 1e3, 123456.75, -2.0)

_OTHER_FORMATS: Final = re.compile(r"""\bformat\b(?!\s*\(\s*(['"])%[dis]\1\s*,)""", re.IGNORECASE)
_BEYOND: Final = re.compile(
    r"\b(select|exists|json_extract|date|time|datetime|timestamp|numeric|struct|array|bytes|float|"
    r"unnest|interval|json|new|extract|current_\w+|uint64|int32|uint32|contexts?_\w+\s*(?!\.))\b"
    r"|\b[rR]?[bB][rR]?['\"]",
    re.IGNORECASE,
)
_ENUM: Final = re.compile(
    r"\b(state|last_known_state|type)\s*(?:!?=|(?:NOT\s+)?IN\b)\s*(\([\w,\s]*\)|\w+\b)",
    re.IGNORECASE,
)
_UPSTREAMS_TABLE: Final = re.compile(r"\b(custom_)?properties_\w+\.", re.IGNORECASE)
_NEW_NAMES: Final = re.compile(r"\b(ABANDONED|REFERENCE|PENDING_OUTPUT|UNKNOWN)\b")
_PROPERTY: Final = re.compile(r"properties\.`[^`]*`|\b(custom_)?properties_")
_CAPITAL_PROPERTY: Final = re.compile(
    r"properties\.(\w*[A-Z]\w*|`[^`]*[^\w `][^`]*`|`[^`]*[A-Z][^`]*`)\."
)
_COLUMN_IN_QUOTES: Final = re.compile(
    r"""['"`](id|name|uri|type_id|external_id|\w+_since_epoch|rowid|\w+_value)['"`]""",
    re.IGNORECASE,
)
# ml-metadata writes the name of a property in the quotes that SQLite has for columns.
_PROPERTY_LIKE_COLUMN: Final = re.compile(
    r"properties\.`?(name|is_custom_property|\w+_value|\w+_id|rowid|oid|_rowid_)`?\.",
    re.IGNORECASE,
)
_ESCAPES: Final = {
    ord("\\"): r"\\",
    **{code: f"\\x{code:02x}" for code in (*range(32), 127)},
    **{ord(char): f"\\{name}" for char, name in zip("\a\b\f\n\r\t\v", "abfnrtv", strict=True)},
}
"""How GoogleSQL writes characters in a string."""


def main() -> int:
    """Print how many texts were tried, and the first difference; 1 when there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.texts")
    parser.add_argument("--texts", type=int, default=2_000)
    parser.add_argument("--seed", type=int, default=0, help="of the first store")
    parser.add_argument("--all", action="store_true", help="go on after a difference")
    arguments = parser.parse_args()
    oracle, console = Oracle(), Console()
    outcomes: Counter[str] = Counter()
    found = 0
    with Progress(console=Console(stderr=True)) as progress:
        task = progress.add_task("filter texts", total=arguments.texts)
        seed = arguments.seed
        while outcomes.total() < arguments.texts:
            for difference in differences(oracle, seed, TEXTS_PER_STORE, outcomes):
                console.print(f"seed {seed}: {difference}", markup=False, soft_wrap=True)
                found += 1
                if not arguments.all:
                    return 1
            seed += 1
            progress.update(task, completed=outcomes.total())
    shown = ", ".join(f"{number} {name}" for name, number in sorted(outcomes.items()))
    console.print(f"{outcomes.total()} filter texts, {found or 'no'} differences: {shown}")
    return 1 if found else 0


def differences(oracle: Oracle, seed: int, texts: int, outcomes: Counter[str]) -> Iterator[str]:
    """Ask both for random texts on a store of odd values; what they answer differently."""
    choice = random.Random(seed)
    with closing(OurStore()) as ours:
        for client in (oracle, ours):
            client.start_over()
            fill(random.Random(seed), client)
        for _ in range(texts):
            kind = choice.choice(KINDS)
            text = random_text(choice, kind)
            if not text:
                continue
            difference = compared(oracle, ours, kind, text, outcomes)
            if difference is not None:
                shortest = _shortest(oracle, ours, kind, text)
                told = compared(oracle, ours, kind, shortest)
                yield f"{kind}: {shortest!r}\n  from {text!r}\n  {told}"


def compared(
    oracle: Client, ours: OurStore, kind: str, text: str, outcomes: Counter[str] | None = None
) -> str | None:
    """How the answers differ, None when they agree or PORTING.md says why they do not."""
    expected, found = _asked(oracle, kind, text), _asked(ours, kind, text)
    counted = "refused" if isinstance(found, type) else "found some" if found else "found none"
    if found != expected:
        exemption = _exemption(oracle, ours, kind, text, expected, found)
        if exemption is None:
            return f"expected {expected}, found {found}"
        counted = f"exempt: {exemption}"
    if not isinstance(found, type):
        other = _other_ways(ours, kind, text, found)
        if other is not None:
            return other
    if outcomes is not None:
        outcomes[counted] += 1
    return None


def _asked(client: Client, kind: str, text: str) -> Any:
    """The ids that a filter finds, or the class of the error."""
    rpc = f"Get{kind.capitalize()}s"
    request = getattr(service, f"{rpc}Request")()
    request.options.max_result_size = 100
    request.options.filter_query = text
    answer = outcome(client.call, rpc, request)
    return answer if isinstance(answer, type) else sorted(n.id for n in getattr(answer, f"{kind}s"))


def _other_ways(ours: OurStore, kind: str, text: str, found: list[int]) -> str | None:
    """Where the tables, or Python on all nodes, answer differently."""
    engine = ours._store._engine
    where, position = compile_filter(text, kind), engine.log.position
    tables = engine.projections.opened_tables()
    tables.fold(position)
    listed = sorted(
        row[0] for row in tables.scanned(Listing(NODE_KINDS[kind], position, where=where))
    )
    if listed != found:
        return f"by SQL {listed}, otherwise {found}: {where.condition}"
    if where.evaluate is not None:
        among = NodeIds(range(1, 40))
        rows = engine.projections.planner.find(
            Listing(NODE_KINDS[kind], position, among=among, where=where)
        ).rows
        if sorted(row[0] for row in rows) != found:
            return f"in Python {sorted(row[0] for row in rows)}, otherwise {found}"
    return None


def _exemption(
    oracle: Client, ours: OurStore, kind: str, text: str, expected: Any, found: Any
) -> str | None:
    """The row of PORTING.md that tells a difference, if one does."""
    is_refused = found is errors.InvalidArgumentError
    if expected is errors.InternalError and (is_refused or not isinstance(found, type)):
        return "what the database of ml-metadata does not know"
    if expected is errors.InvalidArgumentError and not isinstance(found, type):
        predicates = [(c.lower(), re.sub(r"\W", "", v)) for c, v in _ENUM.findall(text)]
        if len(predicates) > len(set(predicates)):
            return "an enum predicate said twice"
        if _NEW_NAMES.search(text):
            return "all enum names"
        if re.search(r"_\w+\.(state|last_known_state)\b", text):
            return "enums of neighbours"
        if _PROPERTY.search(text):
            return "property names as they are"
    if _CAPITAL_PROPERTY.search(text) or _PROPERTY_LIKE_COLUMN.search(text):
        return "property names as they are"
    if is_refused and (_BEYOND.search(text) or _OTHER_FORMATS.search(text)):
        return "beyond the listed functions and types"
    if is_refused and _UPSTREAMS_TABLE.search(text):
        return "tables of ml-metadata's own"
    recast = without_casts(kind, text)
    if recast is None:
        return "CAST gives what it says, of a double or NULL"
    if recast != text:
        expected = _asked(oracle, kind, recast)
        if expected == found:
            return "CAST gives what it says"
        text = recast
    if _with_short_positions(ours, kind, text) == expected:
        return "positions of 64 bits"
    escaped = _with_strings_escaped(text)
    if escaped != text and _asked(ours, kind, escaped) == expected:
        return "strings are what they say"
    clamped = re.sub(r"\b\d{19,20}\b", lambda match: str(min(int(match[0]), 2**63 - 1)), text)
    if clamped != text and _asked(ours, kind, clamped) == expected:
        return "literals of 2**63 and more"
    if _is_rewritten_in_string(text) or _COLUMN_IN_QUOTES.search(text):
        return "names in strings and comments"
    if re.search(r"\d[eE]\d{3}", text):
        return "doubles without end"
    if _overflows(ours, kind, text):
        return "integers that outgrow 64 bits"
    return None


def _with_strings_escaped(text: str) -> str:
    """The text with each string replaced by what ml-metadata compares with instead."""

    def escaped(match: re.Match[str]) -> str:
        if match.lastgroup != "string":
            return match.group()
        try:
            said = lexing._decoded(match.group(), 0)
        except errors.InvalidArgumentError:
            return match.group()
        compared_with = said.translate(_ESCAPES)
        if "'" in said and '"' in said:
            compared_with = compared_with.replace('"', '\\"')
        if compared_with == said:
            return match.group()
        return "'" + "".join(f"\\U{ord(char):08x}" for char in compared_with) + "'"

    return lexing._TOKEN.sub(escaped, text)


def _is_rewritten_in_string(text: str) -> bool:
    inside = re.findall(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|`[^`]*`|--.*|#.*|/\*.*?\*/", text)
    return any(re.search(r"state|type|properties|_\w+\.", part) for part in inside)


def _overflows(ours: OurStore, kind: str, text: str) -> bool:
    """Whether any integer leaves 64 bits on the way."""
    with patch.object(operators, "widened", lambda sql: f"({sql})::BIGINT"), _compiled_anew():
        return _asked(ours, kind, text) is errors.InvalidArgumentError


def _with_short_positions(ours: OurStore, kind: str, text: str) -> Any:
    """What is found where SUBSTR takes the last 32 bits of its positions, as SQLite does."""
    least, taken, result, write = functions._SIGNATURES["SUBSTR"]

    def short(value: str, *positions: str) -> str:
        low = [f"(({part})::BIGINT & 4294967295)" for part in positions]
        bits = [f"(({part} + 2147483648) & 4294967295)" for part in low]
        return write(value, *(f"({part} - 2147483648)" for part in bits))

    signature = {"SUBSTR": (least, taken, result, short)}
    with patch.dict(functions._SIGNATURES, signature), _compiled_anew():
        return _asked(ours, kind, text)


@contextmanager
def _compiled_anew() -> Iterator[None]:
    caches: tuple[Any, ...] = (compiler._compile_cached, compiler._shape_cached)
    for cache in caches:
        cache.cache_clear()
    try:
        yield
    finally:
        for cache in caches:
            cache.cache_clear()


def _shortest(oracle: Client, ours: OurStore, kind: str, text: str) -> str:
    """Leave out what a difference does not need."""
    size = max(1, len(text) // 2)
    while size:
        place = 0
        while place < len(text):
            shorter = text[:place] + text[place + size :]
            if shorter and compared(oracle, ours, kind, shorter) is not None:
                text = shorter
            else:
                place += size
        size //= 2
    return text


def fill(choice: random.Random, client: Client) -> None:
    """Put nodes with values at the edges, and links between them."""
    call: Callable[[str, Any], Any] = client.call
    kinds = {"i": mlmd.INT, "d": mlmd.DOUBLE, "s": mlmd.STRING, "b": mlmd.BOOLEAN}
    kinds |= {"int": mlmd.INT, "double": mlmd.DOUBLE, "string": mlmd.STRING, "bool": mlmd.BOOLEAN}
    count = choice.randrange(3, 9)
    for kind in KINDS:
        types = service.PutTypesRequest()
        getattr(types, f"{kind}_types").add(name="T0", properties=kinds)
        getattr(types, f"{kind}_types").add(name="t 1", properties=kinds)
        answer = call("PutTypes", types)
        type_ids = getattr(answer, f"{kind}_type_ids")
        request = getattr(service, f"Put{kind.capitalize()}sRequest")()
        names = choice.sample(_NAMES, count)
        for number, name in enumerate(names):
            node = getattr(request, f"{kind}s").add(type_id=choice.choice(type_ids))
            if name is not None or kind == "context":
                node.name = name or "none"
            if choice.random() < 0.5:
                node.external_id = f"{name} {number}"
            _set_properties(choice, node)
            if kind == "artifact":
                node.uri = choice.choice(("", "u", name or "", "s3://A%"))
                if choice.random() < 0.7:
                    node.state = choice.randrange(7)
            elif kind == "execution" and choice.random() < 0.7:
                node.last_known_state = choice.randrange(7)
        call(f"Put{kind.capitalize()}s", request)
    events: dict[tuple[int, int, int], mlmd.Event] = {}
    links = service.PutAttributionsAndAssociationsRequest()
    for artifact_id in range(1, count + 1):
        for _ in range(choice.randrange(3)):
            event = mlmd.Event(
                artifact_id=artifact_id,
                execution_id=choice.randrange(1, count + 1),
                type=choice.randrange(1, 8),
                milliseconds_since_epoch=choice.choice((1, 5)),
            )
            events[artifact_id, event.execution_id, event.type] = event
        if choice.random() < 0.7:
            links.attributions.add(artifact_id=artifact_id, context_id=choice.randrange(1, count))
            links.associations.add(execution_id=artifact_id, context_id=choice.randrange(1, count))
    call("PutEvents", service.PutEventsRequest(events=events.values()))
    call("PutAttributionsAndAssociations", links)
    parents = service.PutParentContextsRequest()
    for child in range(2, count):
        parents.parent_contexts.add(child_id=child, parent_id=child - 1)
    call("PutParentContexts", parents)


def _set_properties(choice: random.Random, node: Any) -> None:
    for prefix in ("", "long"):
        names = ("int", "double", "string", "bool") if prefix else ("i", "d", "s", "b")
        if choice.random() < 0.8:
            node.properties[names[0]].int_value = choice.choice(_INTS)
        if choice.random() < 0.8:
            node.properties[names[1]].double_value = choice.choice(_DOUBLES)
        if choice.random() < 0.8:
            node.properties[names[2]].string_value = choice.choice(_NAMES) or ""
        if choice.random() < 0.8:
            node.properties[names[3]].bool_value = choice.random() < 0.5
    if choice.random() < 0.5:
        node.custom_properties["a b"].int_value = choice.choice(_INTS)
    if choice.random() < 0.5:
        node.custom_properties["x"].string_value = choice.choice(_NAMES) or ""


if __name__ == "__main__":
    sys.exit(main())
