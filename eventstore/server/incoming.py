"""A call as it came, whatever carried it."""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

from msgspec import Struct

if TYPE_CHECKING:
    from eventstore.server.caller import Caller
    from eventstore.server.principal import Principal

_EARLY_SHARE: Final = 0.01
_EARLY_SECONDS: Final = 0.02
"""How much sooner than here a deadline may be over at the client: gRPC rounds it up on the way."""

Metadata: TypeAlias = Sequence[tuple[str, str | bytes]]
"""What was sent beside a request: lower-case names, in order; bytes where a name ends in `-bin`."""


class Peer(Struct, frozen=True):
    """The other end of a connection.

    `address` is its IP address, `name` that of its certificate, which an authority that is trusted
    here has signed: the common name, and without one the first alternative. "" where it has none.
    """

    address: str = ""
    name: str = ""


class Incoming(ABC):
    """One call. `service` and `rpc` are the two parts of its method's name."""

    def __init__(self, service: str, rpc: str) -> None:
        self.service = service
        self.rpc = rpc
        self._began = time.monotonic()
        self.principal: Principal | None = None
        """Who its credential says that calls, once that was asked."""
        self.caller: Caller | None = None
        """Who calls, once that is known."""
        self.told: list[tuple[str, str]] = []
        """What is said beside the answer."""

    @abstractmethod
    def metadata(self) -> Metadata: ...

    @abstractmethod
    def peer(self) -> Peer: ...

    def certificate_name(self) -> str:
        """That of `peer`, without the cost of its address."""
        return self.peer().name

    @abstractmethod
    def seconds_left(self) -> float | None:
        """Until its deadline; None without one."""

    def is_overdue(self) -> bool:
        """Whether its deadline is over, or so nearly that its client gave up because of it."""
        left = self.seconds_left()
        if left is None:
            return False
        whole = time.monotonic() - self._began + left
        return left <= _EARLY_SECONDS + _EARLY_SHARE * whole

    @abstractmethod
    def is_wanted(self) -> bool:
        """Whether its client is still there, and its deadline not over."""

    def cut(self) -> None:
        """End the call of a client that does not read, unless what carries it does so anyway."""
        return

    @abstractmethod
    def when_ended(self, call_back: Callable[[], None]) -> bool:
        """Call back once its client has the whole answer, or is gone; False if it is gone now."""
