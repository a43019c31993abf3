"""Runs in the oracle's environment: prints the public surface, methods with their parameters."""

import inspect
import json
import sys

import ml_metadata
from ml_metadata import errors, proto
from ml_metadata.metadata_store import metadata_store, mlmd_types

signatures = {
    name: [
        (p.name, p.kind.name, None if p.default is p.empty else repr(p.default))
        for p in inspect.signature(member).parameters.values()
    ]
    for name, member in inspect.getmembers(metadata_store.MetadataStore, inspect.isfunction)
    if not name.startswith("_") or name in ("__init__", "_call")
}
json.dump(
    {
        "methods": signatures,
        "package": sorted(ml_metadata.__all__),
        "errors": sorted(
            n for n in vars(errors) if n[0] != "_" and (n.endswith("Error") or n.isupper())
        ),
        "proto": sorted(n for n in vars(proto) if n[0].isupper()),
        "mlmd_types": sorted(
            n for n, c in vars(mlmd_types).items() if inspect.isclass(c) and n[0] != "_"
        ),
    },
    sys.stdout,
)
