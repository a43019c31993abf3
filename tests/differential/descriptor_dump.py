"""Runs in the oracle's environment: prints its descriptors, serialized, in base64."""

import base64
import json
import sys

from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2
from ml_metadata.simple_types.proto import simple_types_pb2

modules = (metadata_store_pb2, metadata_store_service_pb2, simple_types_pb2)
json.dump(
    {m.DESCRIPTOR.name: base64.b64encode(m.DESCRIPTOR.serialized_pb).decode() for m in modules},
    sys.stdout,
)
