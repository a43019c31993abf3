"""How a server listens: where, with which certificate, and within which limits."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import Struct

from eventstore.call_metadata import BYTES_MAX
from eventstore.errors import InvalidArgumentError
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.reloading import Reloaded
from eventstore.server.tls import SslConfig

if TYPE_CHECKING:
    from google.protobuf.descriptor import Descriptor
    from google.protobuf.text_format import ParseError

MEBIBYTE: Final = 1024 * 1024

_HERE: Final = ("127.0.0.1", "::1", "localhost")

_REQUEST_BYTES_MAX: Final = "grpc.max_receive_message_length"
_ANSWER_BYTES_MAX: Final = "grpc.max_send_message_length"

_SERVER_CONFIG: Final = mlmd.MetadataStoreServerConfig.DESCRIPTOR
_NO_FIELD: Final = re.compile(r'Message type "([\w.]+)" has no field named')

ChannelArguments: TypeAlias = Mapping[str, int | str]
"""Arguments of gRPC's own by name, such as `grpc.max_connection_age_ms`."""


class Listening(Struct, frozen=True):
    """Where a server listens, and how.

    Port 0 is any free one. With `tls` nothing is answered in plain text; `tls_now` is what
    that has become, where it may change. A message may have
    `message_bytes_max`, unless an argument of gRPC's own says otherwise. Calls are answered by
    `threads`; beyond `calls_max` they are refused. A client that has begun a call has
    `message_seconds` for its request, and its answer may take `call_seconds_max`. With
    `shares_port` other processes of the same user may listen there, too.
    """

    host: str = "127.0.0.1"
    port: int = 8080
    tls: SslConfig | None = None
    tls_now: Reloaded[SslConfig] | None = None
    channel_arguments: ChannelArguments = {}
    message_bytes_max: int = 100 * MEBIBYTE
    threads: int = 32
    calls_max: int = 1_000
    message_seconds: float = 120
    call_seconds_max: float = math.inf
    shares_port: bool = False

    def address(self) -> str:
        """The host and the port, as gRPC takes them."""
        return joined(self.host, self.port)

    def options(self) -> dict[str, int | str]:
        """All arguments of gRPC's own."""
        return {
            _REQUEST_BYTES_MAX: self.message_bytes_max,
            _ANSWER_BYTES_MAX: self.message_bytes_max,
            # gRPC would refuse 16 KiB.
            "grpc.max_metadata_size": BYTES_MAX,
            "grpc.absolute_max_metadata_size": BYTES_MAX,
            # Else a second server would share the port, and get some of the calls.
            "grpc.so_reuseport": int(self.shares_port),
            **self.channel_arguments,
        }

    def is_here(self) -> bool:
        """Whether it listens on this machine alone."""
        return self.host in _HERE

    def request_bytes_max(self) -> int:
        """How long a request may be; -1 where nothing limits it."""
        return self._bytes_max(_REQUEST_BYTES_MAX)

    def answer_bytes_max(self) -> int:
        """How long an answer may be; -1 where nothing limits it."""
        return self._bytes_max(_ANSWER_BYTES_MAX)

    def _bytes_max(self, name: str) -> int:
        most = self.options()[name]
        assert isinstance(most, int)
        return most


class WebListening(Struct, frozen=True):
    """The port for gRPC-Web, 0 for any free one, and the origins whose pages may call from afar.

    All else is as for gRPC.
    """

    port: int
    origins: frozenset[str] = frozenset()


def joined(host: str, port: int) -> str:
    """A host and a port as one text; an IPv6 address has brackets around it."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def parsed_channel_arguments(text: str) -> dict[str, int | str]:
    """What `name=value,name=value` says; a value that reads as a whole number is one.

    Raises InvalidArgumentError for a part that is not of this form.
    """
    found: dict[str, int | str] = {}
    for part in filter(None, text.split(",")):
        name, equals, value = part.partition("=")
        if not (name and equals and value):
            raise InvalidArgumentError(
                f"the channel argument {part!r} is not of the form name=value, such as "
                "grpc.max_connection_age_ms=2000"
            )
        try:
            found[name] = int(value)
        except ValueError:
            if name in (_REQUEST_BYTES_MAX, _ANSWER_BYTES_MAX):
                raise InvalidArgumentError(
                    f"the channel argument {name} is {value!r}: write a number of bytes, -1 for any"
                ) from None
            found[name] = value
    return found


def parsed_server_config(text: str) -> mlmd.MetadataStoreServerConfig:
    """The message that a text of protobuf's says.

    Raises InvalidArgumentError for any other, which says where, and shows of it names of fields
    alone: there may be a password.
    """
    from google.protobuf import text_format

    config = mlmd.MetadataStoreServerConfig()
    try:
        text_format.Parse(text, config)
    except text_format.ParseError as error:
        raise InvalidArgumentError(
            f"this is no MetadataStoreServerConfig as text (line {error.GetLine()}, column "
            f"{error.GetColumn()}): {_what_is_wrong(text, error)}; write connection_config "
            "{ ... } and ssl_config { ... }, with MLMD's fields"
        ) from None
    return config


def _what_is_wrong(text: str, error: ParseError) -> str:
    """What an error says, in which only names of MLMD's fields are of the text."""
    messages = {config.full_name: config for config in _within(_SERVER_CONFIG)}
    unknown = _NO_FIELD.search(str(error))
    if unknown is not None and unknown[1] in messages:
        message = messages[unknown[1]]
        names = ", ".join(field.name for field in message.fields)
        return f"{message.name} has no such field; it has {names}"
    lines = text.split("\n")[: error.GetLine() or 1]
    lines[-1] = lines[-1][: max((error.GetColumn() or 1) - 1, 0)]
    known = {field.name for message in messages.values() for field in message.fields}
    before = [word for word in re.findall(r"\w+", "\n".join(lines)) if word in known]
    return f"what follows {before[-1]} cannot be read" if before else "it cannot be read"


def _within(message: Descriptor) -> Iterator[Descriptor]:
    """A type of messages, and those of its fields."""
    yield message
    for field in message.fields:
        if field.message_type is not None:
            yield from _within(field.message_type)
