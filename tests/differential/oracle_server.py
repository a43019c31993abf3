"""Runs in the oracle's environment: answers RPCs and methods with ml-metadata, by JSON lines."""

import base64
import json
import sys

import codec
import ml_metadata
from ml_metadata import errors
from ml_metadata.metadata_store import metadata_store
from ml_metadata.proto import metadata_store_pb2, metadata_store_service_pb2

MODULES = (metadata_store_pb2, metadata_store_service_pb2)


def config_of(path):
    config = metadata_store_pb2.ConnectionConfig()
    if path is None:
        config.fake_database.SetInParent()
    else:
        config.sqlite.filename_uri = path
    return config


def config_from(text):
    return metadata_store_pb2.ConnectionConfig.FromString(base64.b64decode(text))


def open_store(config):
    # What upstream aborts here it would abort again: no waiting between tries.
    config.retry_options.max_num_retries = 1
    return metadata_store.MetadataStore(config, enable_upgrade_migration=True)


def dialled(port):
    config = metadata_store_pb2.MetadataStoreClientConfig(host="127.0.0.1", port=port)
    return metadata_store.MetadataStore(config)


def run_rpc(store, rpc, request):
    request_class = getattr(metadata_store_service_pb2, rpc + "Request")
    response = getattr(metadata_store_service_pb2, rpc + "Response")()
    store._call(rpc, request_class.FromString(base64.b64decode(request)), response)
    return {"response": base64.b64encode(response.SerializeToString()).decode()}


def run_method(store, name, arguments):
    given = [codec.decoded(argument, ml_metadata, MODULES) for argument in arguments]
    return {"returned": codec.encoded(getattr(store, name)(*given))}


def main():
    store = None
    for line in sys.stdin:
        call = json.loads(line)
        try:
            if "open" in call:
                store = open_store(config_of(call["open"]))
                reply = {}
            elif "connect" in call:
                store = open_store(config_from(call["connect"]))
                reply = {}
            elif "dial" in call:
                store = dialled(call["dial"])
                reply = {}
            elif "downgrade" in call:
                store = None
                ml_metadata.downgrade_schema(config_from(call["downgrade"]), call["version"])
                reply = {}
            elif "rpc" in call:
                reply = run_rpc(store, call["rpc"], call["request"])
            else:
                reply = run_method(store, call["method"], call["arguments"])
        except errors.StatusError as error:
            reply = {"code": error.error_code, "message": error.message}
        sys.stdout.write(json.dumps(reply) + "\n")
        sys.stdout.flush()


main()
