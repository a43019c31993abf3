"""ml-metadata 1.17.1 behind a gRPC server, in its own environment: `python peer_server.py PATH`.

Its Python extension takes and gives serialized messages, and so does a generic handler. One store
on a SQLite file answers one call at a time: several would find the file locked, and abort. It
prints the port, and goes on until it is ended.
"""

import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import grpc
from ml_metadata.metadata_store.pywrap.metadata_store_extension import metadata_store as extension
from ml_metadata.proto import metadata_store_pb2 as mlmd


def main():
    config = mlmd.ConnectionConfig()
    config.sqlite.filename_uri = sys.argv[1]
    options = mlmd.MigrationOptions()
    store = extension.CreateMetadataStore(config.SerializeToString(), options.SerializeToString())
    alone = threading.Lock()
    codes = {code.value[0]: code for code in grpc.StatusCode}

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details):
            method = getattr(extension, handler_call_details.method.rpartition("/")[2])

            def answer(content, context):
                with alone:
                    answered, message, code = method(store, content)
                if code:
                    context.abort(codes[code], message.decode("utf-8", "replace"))
                return answered

            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(ThreadPoolExecutor(32), handlers=[Handler()])
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    server.start()
    server.wait_for_termination()


main()
