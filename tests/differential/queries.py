"""Random filter and lineage queries for as long as one wants.

`python -m tests.differential.queries --filters 20000 --lineage 5000` runs them on random stores of
both packages, and prints how many there were, or the first that was answered differently.
"""

from __future__ import annotations

import argparse
import random
import sys
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any
from unittest.mock import patch

from rich.console import Console
from rich.progress import Progress

from eventstore import errors
from eventstore.projections import held_values
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.answers import repeats_enum, sort_graph
from tests.differential.clients import OurStore
from tests.differential.expressions import random_expression
from tests.differential.filters import random_filter, random_junction
from tests.differential.generator import KINDS
from tests.differential.oracle import Oracle
from tests.differential.programs import run_program
from tests.differential.reads import outcome

QUERIES_PER_STORE = 200
Request = tuple[str, Any]

_EVENT_TYPES = [number for name, number in mlmd.Event.Type.items() if name != "UNKNOWN"]


def main() -> int:
    """Print how many queries were run, and the first difference; 1 when there is one."""
    parser = argparse.ArgumentParser(prog="python -m tests.differential.queries")
    parser.add_argument("--filters", type=int, default=2_000, help="filter queries")
    parser.add_argument("--lineage", type=int, default=500, help="lineage queries")
    parser.add_argument("--seed", type=int, default=0, help="of the first store")
    arguments = parser.parse_args()
    oracle, console = Oracle(), Console()
    with Progress(console=Console(stderr=True)) as progress:
        for what, count, run in (
            ("filter", arguments.filters, run_filters),
            ("lineage", arguments.lineage, run_lineage),
        ):
            outcomes: Counter[str] = Counter()
            seed = arguments.seed
            task = progress.add_task(f"{what} queries", total=count)
            while outcomes.total() < count:
                difference = run(oracle, seed, QUERIES_PER_STORE, outcomes)
                if difference is not None:
                    console.print(f"seed {seed}: {difference}", markup=False)
                    return 1
                seed += 1
                progress.update(task, completed=outcomes.total())
            shown = ", ".join(f"{number} {name}" for name, number in sorted(outcomes.items()))
            console.print(f"{outcomes.total()} {what} queries, no difference: {shown}")
    return 0


def run_filters(oracle: Oracle, seed: int, queries: int, outcomes: Counter[str]) -> str | None:
    """Ask both for random filters on a random store; what the first difference is."""
    choice = random.Random(seed)
    # So that values of properties are looked up, too, though each is asked for only a few times.
    uses_min = choice.choice((1, held_values.USES_MIN))
    with closing(OurStore()) as ours, patch.object(held_values, "USES_MIN", uses_min):
        difference = run_program(seed, 80, oracle, ours, Counter())
        if difference is not None:
            return str(difference)
        return _first_difference(oracle, ours, partial(_filter_query, choice), queries, outcomes)


def run_lineage(oracle: Oracle, seed: int, queries: int, outcomes: Counter[str]) -> str | None:
    """Ask both for the lineage of random nodes of a random graph."""
    choice = random.Random(seed)
    with closing(OurStore()) as ours:
        oracle.start_over()
        ours.start_over()
        for rpc, request in _random_graph(choice):
            answers = outcome(oracle.call, rpc, request), outcome(ours.call, rpc, request)
            if isinstance(answers[0], type) or isinstance(answers[1], type):
                return f"{rpc}: {answers}"
        return _first_difference(oracle, ours, partial(_lineage_query, choice), queries, outcomes)


def _first_difference(
    oracle: Oracle,
    ours: OurStore,
    next_query: Callable[[], Request],
    queries: int,
    outcomes: Counter[str],
) -> str | None:
    for _ in range(queries):
        rpc, request = next_query()
        expected = _comparable(outcome(oracle.call, rpc, request))
        actual = _comparable(outcome(ours.call, rpc, request))
        # Upstream's database does not know all that its analyser lets through (contract 5.1).
        is_exempt = expected is errors.InternalError and (
            actual is errors.InvalidArgumentError or not isinstance(actual, type)
        )
        # Upstream computes with doubles where integers overflow; GoogleSQL has it an error.
        is_exempt |= actual is errors.InvalidArgumentError and _overflows(ours, rpc, request)
        # Upstream stumbles over an enum predicate that a query says twice (contract Q17).
        is_exempt |= expected is errors.InvalidArgumentError and repeats_enum(request)
        if actual != expected and not is_exempt:
            return f"{rpc}: {request}\nexpected {expected}\nfound {actual}"
        if isinstance(expected, type):
            outcomes["refused" if not is_exempt else "exempted"] += 1
        elif is_exempt:
            outcomes["overflows"] += 1
        else:
            outcomes["found some" if expected else "found none"] += 1
    return None


def _overflows(ours: OurStore, rpc: str, request: Any) -> bool:
    try:
        ours.call(rpc, request)
    except errors.InvalidArgumentError as error:
        return "Out of Range Error" in str(error)
    return False


def _comparable(answer: Any) -> Any:
    """The class of an error, the ids of a page in order, or a graph without its nodes' order."""
    if isinstance(answer, type):
        return answer
    if isinstance(answer, service.GetLineageSubgraphResponse):
        graph = answer.lineage_subgraph
        for event in graph.events:
            event.ClearField("milliseconds_since_epoch")
        sort_graph(graph)
        graph.events.sort(key=lambda e: (e.artifact_id, e.execution_id, e.type))
        return graph
    return [node.id for kind in KINDS for node in getattr(answer, f"{kind}s", ())]


def _filter_query(choice: random.Random) -> Request:
    kind = choice.choice(KINDS)
    rpc = f"Get{kind.capitalize()}s"
    request = getattr(service, f"{rpc}Request")()
    request.options.max_result_size = 100
    write = choice.choice((random_filter, random_expression, random_junction))
    request.options.filter_query = write(choice, kind)
    return rpc, request


def _random_graph(choice: random.Random) -> list[Request]:
    """Puts of nodes in contexts, and of any events between them; cycles are likely."""
    types = service.PutTypesRequest()
    for number in range(2):
        types.artifact_types.add(name=f"A{number}")
        types.execution_types.add(name=f"E{number}")
    types.context_types.add(name="C")
    count = choice.randrange(4, 16)
    artifacts, executions = service.PutArtifactsRequest(), service.PutExecutionsRequest()
    for number in range(count):
        artifacts.artifacts.add(
            type_id=10 + choice.randrange(2),
            name=f"a{number}",
            uri=choice.choice("xy"),
            state=choice.choice((mlmd.Artifact.LIVE, mlmd.Artifact.PENDING)),
        )
        executions.executions.add(type_id=12 + choice.randrange(2), name=f"e{number}")
    contexts = service.PutContextsRequest()
    for number in range(3):
        contexts.contexts.add(type_id=14, name=f"c{number}")
    links = service.PutAttributionsAndAssociationsRequest()
    events: dict[tuple[int, int, int], mlmd.Event] = {}
    for _ in range(choice.randrange(3 * count)):
        artifact_id, execution_id = (choice.randrange(1, count + 1) for _ in range(2))
        event = mlmd.Event(
            artifact_id=artifact_id, execution_id=execution_id, type=choice.choice(_EVENT_TYPES)
        )
        event.path.steps.add().index = choice.randrange(3)
        events[artifact_id, execution_id, event.type] = event
        if choice.random() < 0.3:
            context_id = choice.randrange(1, 4)
            links.attributions.add(artifact_id=artifact_id, context_id=context_id)
            links.associations.add(execution_id=execution_id, context_id=context_id)
    return [
        ("PutTypes", types),
        ("PutArtifacts", artifacts),
        ("PutExecutions", executions),
        ("PutContexts", contexts),
        ("PutEvents", service.PutEventsRequest(events=events.values())),
        ("PutAttributionsAndAssociations", links),
    ]


def _lineage_query(choice: random.Random) -> Request:
    request = service.GetLineageSubgraphRequest()
    options = request.lineage_subgraph_query_options
    kind = choice.choice(("artifact", "execution"))
    if choice.random() < 0.97:
        starting = getattr(options, f"starting_{kind}s")
        starting.filter_query = _node_filter(choice, kind)
    if choice.random() < 0.8:
        options.max_num_hops = choice.choice((0, 1, 2, 3, 4, 5, 20, 100, 101, 5000, -1))
    if choice.random() < 0.8:
        options.direction = choice.randrange(4)
    for ending in ("artifact", "execution"):
        if choice.random() < 0.3:
            nodes = getattr(options, f"ending_{ending}s")
            if choice.random() < 0.95:
                nodes.filter_query = _node_filter(choice, ending)
            nodes.include_ending_nodes = choice.random() < 0.5
    if choice.random() < 0.4:
        fields = [field.name for field in mlmd.LineageGraph.DESCRIPTOR.fields]
        request.read_mask.paths.extend(choice.sample(fields, choice.randrange(1, 5)))
        if choice.random() < 0.05:
            request.read_mask.paths.append("nonsense")
    return "GetLineageSubgraph", request


def _node_filter(choice: random.Random, kind: str) -> str:
    number, other = choice.randrange(1, 16), choice.randrange(1, 16)
    letter = kind[0]
    return choice.choice(
        (
            f"id = {number}",
            f"id IN ({number}, {other})",
            f"id > {number}",
            f"name = '{letter}{number}'",
            f"name LIKE '{letter}1%'",
            f"type = '{letter.upper()}1' AND id < {number}",
            f"contexts_a.name = 'c{choice.randrange(4)}'",
            f"events_0.type = INPUT AND id != {number}",
            "TRUE",
            "FALSE",
            f"uri = 'x' OR id = {number}",
            f"nonsense = {number}",
            "",
        )
    )


if __name__ == "__main__":
    sys.exit(main())
