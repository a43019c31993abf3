"""Calls that no network carries."""

from __future__ import annotations

from collections.abc import Callable

from eventstore.server.incoming import Incoming, Metadata, Peer
from eventstore.server.roles import MLMD_SERVICE


class Came(Incoming):
    """A call that came with this, and nothing else."""

    def __init__(
        self,
        metadata: Metadata = (),
        peer: Peer | None = None,
        rpc: str = "GetArtifactTypes",
        service: str = MLMD_SERVICE,
    ) -> None:
        super().__init__(service, rpc)
        self._metadata, self._peer = metadata, peer or Peer()

    def metadata(self) -> Metadata:
        return self._metadata

    def peer(self) -> Peer:
        return self._peer

    def seconds_left(self) -> None:
        return None

    def is_wanted(self) -> bool:
        return True

    def when_ended(self, call_back: Callable[[], None]) -> bool:
        return True
