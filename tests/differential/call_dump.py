"""Calls every method of MetadataStore with arguments of all sorts; prints what comes of each.

Runs on ml-metadata in the oracle's environment; with `ours` it runs on this package in its place,
with `requests` on a client that only sends requests to a store of this package.
"""

import copy
import inspect
import json
import sys

if sys.argv[1:]:
    import eventstore

    eventstore.install_as_ml_metadata()

import ml_metadata
from ml_metadata.proto import metadata_store_pb2 as mlmd

ODD = {
    "None": None,
    "an int": 5,
    "minus one": -1,
    "beyond 64 bits": 2**63,
    "text": "x",
    "no text": "",
    "bytes": b"x",
    "a float": 1.5,
    "true": True,
    "false": False,
    "no list": [],
    "a tuple": (),
    "a dict": {},
    "a list of None": [None],
    "a list of ints": [5],
    "a list of texts": ["x"],
    "a list of bytes": [b"x"],
    "a list of floats": [1.0],
    "a list of booleans": [True, False],
    "a list of huge ints": [2**63],
    "a tuple of texts": ("x",),
    "a range": range(2),
    "an object": object,
    "a node": mlmd.Artifact(),
    "nodes": [mlmd.Artifact()],
    "a context": mlmd.Context(),
    "events": [mlmd.Event()],
    "a type": mlmd.ArtifactType(name="P"),
    "options": ml_metadata.ListOptions(),
    "a limit below zero": ml_metadata.ListOptions(limit=-1),
    "a limit below one": ml_metadata.ListOptions(limit=0.5),
    "a limit amid numbers": ml_metadata.ListOptions(limit=2.5),
    "a limit that is no number": ml_metadata.ListOptions(limit=float("nan")),
    "no limit": ml_metadata.ListOptions(limit=float("inf")),
    "a limit below all": ml_metadata.ListOptions(limit=float("-inf")),
}
RIGHT = {
    "artifact_type": mlmd.ArtifactType(name="Q"),
    "execution_type": mlmd.ExecutionType(name="Q"),
    "context_type": mlmd.ContextType(name="Q"),
    "execution": mlmd.Execution(type_id=11),
    "query_options": mlmd.LineageSubgraphQueryOptions(starting_artifacts={"filter_query": "id=1"}),
}
"""What is right for parameters of these names, where others are put to the test."""


def main():
    config = mlmd.ConnectionConfig()
    config.fake_database.SetInParent()
    store = ml_metadata.MetadataStore(config)
    if sys.argv[1:] == ["requests"]:
        from eventstore.metadata_store.writer import MetadataWriter
        from tests.requests_only import SentRequests

        store = MetadataWriter(SentRequests(store._engine))
    type_id = store.put_artifact_type(mlmd.ArtifactType(name="T"))
    store.put_execution_type(mlmd.ExecutionType(name="T"))
    store.put_artifacts([mlmd.Artifact(type_id=type_id, name="T", uri="T")])
    outcomes = {}
    for name, method in inspect.getmembers(store, inspect.ismethod):
        if name.startswith(("get_", "put_")):
            parameters = list(inspect.signature(method).parameters.values())
            required = [p.name for p in parameters if p.default is p.empty]
            outcomes[f"{name}()"] = outcome(method, {})
            for parameter in parameters:
                for odd, value in ODD.items():
                    given = {p: right_for(p, name) for p in required}
                    given[parameter.name] = copy.deepcopy(value)
                    outcomes[f"{name}({parameter.name}: {odd})"] = outcome(method, given)
    print(json.dumps(outcomes))


def right_for(parameter, method):
    if parameter in RIGHT:
        return copy.deepcopy(RIGHT[parameter])
    if parameter.endswith("_ids"):
        return [1]
    if parameter.endswith("_id"):
        return 1
    return [] if method.startswith("put_") else "T"


def outcome(method, given):
    try:
        answer = method(**given)
    except Exception as error:
        return type(error).__name__
    if isinstance(answer, (list, tuple)):
        return f"{len(answer)} of {type(answer).__name__}"
    return "nothing" if answer is None else "something"


main()
