"""MLMD's calls, answered by a server over gRPC."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from copy import copy
from functools import partial
from typing import Any, Final, TypeVar

import grpc
from msgspec.structs import replace

from eventstore import call_metadata, errors
from eventstore.call_metadata import APPLIES_ONCE
from eventstore.log.kinds import Node, NodeKind
from eventstore.log.readable import UNREADABLE, unreadable_request
from eventstore.log.record import Position
from eventstore.metadata_store.calls import (
    MAX_NUM_RESULT,
    Calls,
    as_ids,
    list_operation,
    service,
)
from eventstore.metadata_store.credentials import Credentials, Metadata
from eventstore.metadata_store.options import ListOptions, OrderByField
from eventstore.metadata_store.retrying import RETRIES, retried
from eventstore.metadata_store.served import OWN_SERVICE, Served
from eventstore.proto import eventstore_service_pb2 as own
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.store.attribution import Attribution, current_attribution

_Answer = TypeVar("_Answer")

_PATIENCE_SECONDS: Final = 60.0
"""For how long a server that was there before is looked for again."""

_UNANSWERED: Final = (
    errors.UnavailableError,
    errors.DeadlineExceededError,
    # What a server says that ends, of calls that it leaves; nobody cancels one here.
    errors.CancelledError,
)

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0


class RemoteCalls(Calls):
    """Calls of a server: this one's, or MLMD's own. It is asked for nothing before the first."""

    def __init__(
        self,
        config: mlmd.MetadataStoreClientConfig,
        credentials: Credentials,
        attribution: Attribution,
        replica: mlmd.MetadataStoreClientConfig | None = None,
    ) -> None:
        """Puts outside of any `acting_for` these calls have an attribution.

        Gets are sent to a replica, if there is one, and to the server if that has no answer.
        """
        self.address = f"{config.host}:{config.port}"
        self._credentials = credentials
        self._timeout = config.client_timeout_sec if config.HasField("client_timeout_sec") else None
        self._channel = _channel(self.address, config)
        self._patience = _PATIENCE_SECONDS
        if self._timeout is not None:
            self._patience = min(self._timeout, self._patience)
        self._applies_once = False
        """Whether it is known that the server applies a put once that is sent twice."""
        self._as_of: Position | None = None
        self._default = attribution
        self._acts_as: RemoteCalls = self
        """What blocks of `acting` are for."""
        self._senders: dict[str, Any] = {}
        self._replica = None
        if replica is not None:
            self._replica = RemoteCalls(replica, credentials, attribution)
        self._put_position = 0
        """From which position on all is seen that was put here."""
        self._path = f"/{service().DESCRIPTOR.services_by_name['MetadataStoreService'].full_name}/"

    def send(self, rpc: str, request: Any) -> Any:
        try:
            content = request.SerializeToString()
        except UNREADABLE as error:
            raise unreadable_request(error) from None
        answer = self._answered(rpc, content)
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

    def nodes_by_id(self, kind: NodeKind, node_ids: Iterable[int]) -> list[Node]:
        """As `Calls.nodes_by_id`; by fewer ids at once if one answer would be too long."""
        return _in_parts(partial(super().nodes_by_id, kind), as_ids(f"{kind.name}_ids", node_ids))

    def events_of(self, kind: NodeKind, node_ids: Iterable[int]) -> list[mlmd.Event]:
        """As `Calls.events_of`, and as `nodes_by_id`."""
        return _in_parts(partial(super().events_of, kind), as_ids(f"{kind.name}_ids", node_ids))

    def artifacts_and_types(
        self, artifact_ids: Iterable[int] | None
    ) -> tuple[list[mlmd.Artifact], list[mlmd.ArtifactType]]:
        """As `Calls.artifacts_and_types`, and as `nodes_by_id`."""
        types = dict[int, mlmd.ArtifactType]()

        def ask(ids: list[int]) -> list[mlmd.Artifact]:
            artifacts, found = super(RemoteCalls, self).artifacts_and_types(ids)
            for each in found:
                types.setdefault(each.id, each)
            return artifacts

        ids = [] if artifact_ids is None else as_ids("artifact_ids", artifact_ids)
        return _in_parts(ask, ids), [*types.values()]

    def nodes_by_type(self, kind: NodeKind, type_name: str, type_version: str | None) -> list[Node]:
        """As `Calls.nodes_by_type`; page by page if one answer would be too long."""
        try:
            return super().nodes_by_type(kind, type_name, type_version)
        except errors.ResourceExhaustedError:
            return self._pages_by_type(kind, type_name, type_version)

    def _pages_by_type(
        self, kind: NodeKind, type_name: str, type_version: str | None
    ) -> list[Node]:
        rpc = f"Get{kind.plural.capitalize()}ByType"
        options = list_operation(ListOptions(order_by=OrderByField.ID))
        options.max_result_size = MAX_NUM_RESULT
        request = getattr(service(), f"{rpc}Request")(
            type_name=type_name, type_version=type_version or None, options=options
        )
        found = list[Node]()
        while True:
            response = self.send(rpc, request)
            found += getattr(response, kind.plural)
            if not response.next_page_token:
                return found
            request.options.next_page_token = response.next_page_token

    def close(self) -> None:
        """Let go of the connection."""
        self._channel.close()
        if self._replica is not None:
            self._replica.close()

    def as_of(self, position: Position) -> RemoteCalls:
        """The same as of a position, over the same connection."""
        calls = copy(self)
        calls._as_of = position
        return calls

    def parts(self, method: Served, content: bytes) -> Parts:
        """What the service beyond MLMD's answers to a method's arguments, as it comes."""
        return self._parts(method, content, self._attribution(is_put=False))

    def whole(self, method: Served, content: bytes, read: Callable[[Parts], _Answer]) -> _Answer:
        """What is read of it, which is asked for again while the server cannot be reached.

        What changes something has a request id, and so is done once.
        """
        is_change = method.need == "admin"
        attribution = self._attribution(is_change)

        def ask() -> _Answer:
            with self._parts(method, content, attribution) as parts:
                try:
                    return read(parts)
                finally:
                    self._applies_once |= parts.apply_once

        return self._patiently(ask, attribution if is_change else None)

    def _parts(self, method: Served, content: bytes, attribution: Attribution) -> Parts:
        self._refuse_without_time(method.rpc)
        metadata = self._metadata(attribution)
        # What is read lazily takes as long as its reader.
        timeout = None if method.is_lazy else self._timeout
        path = f"/{OWN_SERVICE}/{method.rpc}"
        try:
            call = self._channel.unary_stream(path)(content, timeout=timeout, metadata=metadata)
        except ValueError:
            raise self._closed() from None
        return Parts(call, self.address)

    def _answered(self, rpc: str, content: bytes) -> bytes:
        """The answer to a request, which is sent again while its server cannot be reached.

        But not to a server that could apply a put twice: whether it does is known from its answers.
        """
        is_put = rpc.startswith("Put")
        if self._replica is not None and not is_put:
            with suppress(errors.UnavailableError, errors.UnimplementedError):
                return self._replica._sent(rpc, content, self._metadata_of_replica())
        attribution = self._attribution(is_put)
        send = partial(self._sent, rpc, content, self._metadata(attribution))
        return self._patiently(lambda: retried(send, RETRIES), attribution if is_put else None)

    def _patiently(self, ask: Callable[[], _Answer], put: Attribution | None) -> _Answer:
        """What is answered, if that is a put by somebody; it is asked again for a while."""
        until, pause = time.monotonic() + self._patience, _FIRST_PAUSE_SECONDS
        while True:
            try:
                return ask()
            except _UNANSWERED as error:
                if not self._applies_once:
                    raise
                is_over = isinstance(error, errors.DeadlineExceededError)
                if is_over or time.monotonic() + pause > until:
                    raise _given_up(error, put) from error
            time.sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _attribution(self, is_put: bool) -> Attribution:
        """Who puts, why, and under which request id: a new one, unless a block says another."""
        said = current_attribution(self._acts_as, self._default)
        if not is_put or said.request_id is not None:
            return said
        return replace(said, request_id=str(uuid.uuid4()))

    def _sent(self, rpc: str, content: bytes, metadata: Metadata) -> bytes:
        sender = self._senders.get(rpc)
        if sender is None:
            sender = self._senders[rpc] = self._channel.unary_unary(self._path + rpc)
        self._refuse_without_time(rpc)
        try:
            answer: bytes
            if self._applies_once and (self._replica is None or not rpc.startswith("Put")):
                answer = sender(content, timeout=self._timeout, metadata=metadata)
                return answer
            answer, call = sender.with_call(content, timeout=self._timeout, metadata=metadata)
            trailing = call.trailing_metadata() or ()
            self._applies_once = APPLIES_ONCE in trailing
            for name, value in trailing:
                if name == call_metadata.POSITION:
                    self._put_position = max(self._put_position, int(value))
        except grpc.RpcError as error:
            self._applies_once |= APPLIES_ONCE in (error.trailing_metadata() or ())
            raise errors.make_exception(error.details() or "", error.code().value[0]) from error
        except ValueError:
            raise self._closed() from None
        return answer

    def _metadata(self, attribution: Attribution) -> Metadata:
        said = (
            (call_metadata.ACTOR, attribution.actor),
            (call_metadata.REASON, attribution.reason),
            (call_metadata.REQUEST_ID, attribution.request_id),
            (call_metadata.AS_OF, None if self._as_of is None else str(self._as_of)),
        )
        written = [call_metadata.written(name, text) for name, text in said if text is not None]
        return [*self._credentials.metadata(), *written]

    def _metadata_of_replica(self) -> Metadata:
        position = max(self._put_position, self._as_of or 0)
        said = self._metadata(self._attribution(is_put=False))
        return [*said, (call_metadata.MIN_POSITION, str(position))]

    def _refuse_without_time(self, rpc: str) -> None:
        if self._timeout is not None and self._timeout <= 0:
            # gRPC would sometimes be faster.
            raise errors.DeadlineExceededError(
                f"client_timeout_sec is {self._timeout:g}: no time is left for {rpc}"
            )

    def _closed(self) -> errors.StatusError:
        return errors.FailedPreconditionError(
            f"the connection to {self.address} is closed: open the store again"
        )


def _in_parts(ask: Callable[[list[int]], list[_Answer]], ids: list[int]) -> list[_Answer]:
    """What is answered for ids, which are given in halves if the answer would be too long."""
    try:
        return ask(ids)
    except errors.ResourceExhaustedError:
        distinct = sorted({*ids})
        if len(distinct) < 2:
            raise
    middle = len(distinct) // 2
    return _in_parts(ask, distinct[:middle]) + _in_parts(ask, distinct[middle:])


class Parts:
    """The parts of an answer as they come; leaving its block ends the call."""

    def __init__(self, call: Any, address: str) -> None:
        self._call = call
        self._address = address
        self.apply_once = False
        """Whether the server has said that it does once what it is asked for twice."""

    def __iter__(self) -> Parts:
        return self

    def __next__(self) -> Any:
        try:
            return own.AnswerPart.FromString(next(self._call))
        except StopIteration:
            self.apply_once = APPLIES_ONCE in (self._call.trailing_metadata() or ())
            raise
        except grpc.RpcError as error:
            self.apply_once = APPLIES_ONCE in (error.trailing_metadata() or ())
            code = error.code().value[0]
            if code == errors.UNIMPLEMENTED and error.details() == "Method not found!":
                raise errors.UnimplementedError(
                    f"the server at {self._address} answers MLMD's API alone, and this goes beyond "
                    "it: open the store itself, with eventstore.open"
                ) from error
            raise errors.make_exception(error.details() or "", code) from error

    def __enter__(self) -> Parts:
        return self

    def __exit__(self, *_: object) -> None:
        self.end()

    @contextmanager
    def kept_open(self) -> Iterator[None]:
        """A block that ends the call only if it raises."""
        try:
            yield
        except BaseException:
            self.end()
            raise

    def end(self) -> None:
        """Let the server know that nobody reads any more."""
        self._call.cancel()

    def is_over(self) -> bool:
        """Whether the call has ended."""
        return not self._call.is_active()


def _given_up(error: errors.StatusError, put: Attribution | None) -> errors.StatusError:
    if put is None:
        return error
    message = (
        f"{error.message}; whether it was done is not known: to find out, do the same again within "
        f"store.acting(request_id={put.request_id!r})"
    )
    if isinstance(error, errors.UnavailableError):
        return errors.OutcomeUnknownError(message)
    return errors.restated(error, message)


def _channel(address: str, config: mlmd.MetadataStoreClientConfig) -> Any:
    # gRPC would refuse answers of more than 4 MiB.
    options: dict[str, int] = {
        "grpc.max_receive_message_length": -1,
        # A server that starts again is soon found.
        "grpc.initial_reconnect_backoff_ms": 100,
        "grpc.max_reconnect_backoff_ms": 1_000,
    }
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
