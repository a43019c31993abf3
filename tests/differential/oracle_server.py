"""Runs in the oracle's environment: answers RPCs with ml-metadata, one JSON line each way."""

import base64
import json
import sys

from ml_metadata import errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2


def open_store(path):
    config = metadata_store_pb2.ConnectionConfig()
    if path is None:
        config.fake_database.SetInParent()
    else:
        config.sqlite.filename_uri = path
    # What upstream aborts here it would abort again: no waiting between tries.
    config.retry_options.max_num_retries = 1
    return metadata_store.MetadataStore(config, enable_upgrade_migration=True)


def answer(store, rpc, request):
    request_class = getattr(metadata_store_service_pb2, rpc + "Request")
    response = getattr(metadata_store_service_pb2, rpc + "Response")()
    try:
        store._call(rpc, request_class.FromString(base64.b64decode(request)), response)
    except errors.StatusError as error:
        return {"code": error.error_code, "message": error.message}
    return {"response": base64.b64encode(response.SerializeToString()).decode()}


def main():
    store = None
    for line in sys.stdin:
        call = json.loads(line)
        if "open" in call:
            store = open_store(call["open"])
            reply = {}
        else:
            reply = answer(store, call["rpc"], call["request"])
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


main()
