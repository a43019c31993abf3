"""MLMD's calls, answered by a server over gRPC."""

from __future__ import annotations

from functools import partial
from typing import Any

import grpc

from eventstore import errors
from eventstore.log.kinds import Node, NodeKind
from eventstore.log.readable import UNREADABLE, unreadable_request
from eventstore.metadata_store.calls import Calls, service
from eventstore.metadata_store.options import ListOptions, OrderByField
from eventstore.metadata_store.retrying import RETRIES, retried
from eventstore.proto import metadata_store_pb2 as mlmd


class RemoteCalls(Calls):
    """Calls of a server: this one's, or MLMD's own. It is asked for nothing before the first."""

    def __init__(self, config: mlmd.MetadataStoreClientConfig) -> None:
        self.address = f"{config.host}:{config.port}"
        self._timeout = config.client_timeout_sec if config.HasField("client_timeout_sec") else None
        self._channel = _channel(self.address, config)
        self._senders: dict[str, Any] = {}
        self._path = f"/{service().DESCRIPTOR.services_by_name['MetadataStoreService'].full_name}/"

    def send(self, rpc: str, request: Any) -> Any:
        try:
            content = request.SerializeToString()
        except UNREADABLE as error:
            raise unreadable_request(error) from None
        answer = retried(partial(self._sent, rpc, content), RETRIES)
        return getattr(service(), f"{rpc}Response").FromString(answer)

    def nodes(
        self, kind: NodeKind, list_options: ListOptions | None, context_id: int | None = None
    ) -> list[Node]:
        """As `Calls.nodes`; without options page by page if one answer would be too long."""
        try:
            return super().nodes(kind, list_options, context_id)
        except errors.ResourceExhaustedError:
            if list_options is not None:
                raise
        is_newest_first = kind.name == "execution" and context_id is not None
        same_order = (
            ListOptions(order_by=OrderByField.CREATE_TIME, is_asc=False)
            if is_newest_first
            else ListOptions(order_by=OrderByField.ID)
        )
        return super().nodes(kind, same_order, context_id)

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()

    def _sent(self, rpc: str, content: bytes) -> bytes:
        sender = self._senders.get(rpc)
        if sender is None:
            sender = self._senders[rpc] = self._channel.unary_unary(self._path + rpc)
        if self._timeout is not None and self._timeout <= 0:
            # gRPC would sometimes be faster.
            raise errors.DeadlineExceededError(
                f"client_timeout_sec is {self._timeout:g}: no time is left for {rpc}"
            )
        try:
            answer: bytes = sender(content, timeout=self._timeout)
        except grpc.RpcError as error:
            raise errors.make_exception(error.details() or "", error.code().value[0]) from error
        except ValueError:
            raise errors.FailedPreconditionError(
                f"the connection to {self.address} is closed: open the store again"
            ) from None
        return answer


def _channel(address: str, config: mlmd.MetadataStoreClientConfig) -> Any:
    # gRPC would refuse answers of more than 4 MiB.
    options: dict[str, int] = {"grpc.max_receive_message_length": -1}
    arguments = config.channel_arguments
    if arguments.HasField("max_receive_message_length"):
        options["grpc.max_receive_message_length"] = arguments.max_receive_message_length
    if arguments.HasField("http2_max_ping_strikes"):
        options["grpc.http2.max_ping_strikes"] = arguments.http2_max_ping_strikes
    if not config.HasField("ssl_config"):
        return grpc.insecure_channel(address, options=[*options.items()])
    tls = config.ssl_config
    root, key, chain = (
        getattr(tls, name).encode() if tls.HasField(name) else None
        for name in ("custom_ca", "client_key", "server_cert")
    )
    credentials = grpc.ssl_channel_credentials(root, key, chain)
    return grpc.secure_channel(address, credentials, options=[*options.items()])
