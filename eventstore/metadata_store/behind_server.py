"""What stands in a store behind a server for the engine and the source, which it does not have."""

from __future__ import annotations

from typing import NoReturn

from eventstore.errors import UnimplementedError


class BehindServer:
    """Refuses whatever it is asked for: requests reach what MLMD's methods tell, and no more."""

    def __init__(self, address: str) -> None:
        object.__setattr__(self, "_address", address)

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        self.refuse()

    def __setattr__(self, name: str, value: object) -> NoReturn:
        self.refuse()

    def refuse(self) -> NoReturn:
        """Raise UnimplementedError, which says what can be done."""
        raise UnimplementedError(
            f"this goes beyond MLMD's API, and the store is behind a server ({self._address}), "
            "which answers that API alone: open the store itself, with eventstore.open, for as_of, "
            "history, sql and the like"
        )
