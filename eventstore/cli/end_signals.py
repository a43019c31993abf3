"""Being told of the signals that end a server."""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def told_to_end(tell: Callable[[int], None]) -> Iterator[None]:
    """A block in which `tell` gets the number of each SIGTERM and SIGINT that comes.

    A thread calls it. After the block both do what they did before. It is for the main thread.
    """
    # One that is ignored stays so, as in a script's background.
    caught = {
        number: before
        for number in (signal.SIGTERM, signal.SIGINT)
        if (before := signal.getsignal(number)) is not signal.SIG_IGN
    }
    came, told = socket.socketpair()
    came.setblocking(False)

    def tell_all() -> None:
        while numbers := told.recv(64):
            for number in numbers:
                if number in caught:
                    tell(number)

    # Python runs a handler in the main thread, once that runs again. A main thread that waits for
    # a lock is not woken by a signal that another thread took, or that came just before it waited.
    telling = threading.Thread(target=tell_all, name="signals", daemon=True)
    before_this = signal.set_wakeup_fd(came.fileno(), warn_on_full_buffer=False)
    telling.start()
    try:
        for number in caught:
            signal.signal(number, _do_nothing)
        yield
    finally:
        for number, before in caught.items():
            signal.signal(number, before)
        signal.set_wakeup_fd(before_this)
        came.close()
        telling.join()
        told.close()


def _do_nothing(number: int, frame: object) -> None:
    """A handler in Python, without which the number is not written."""
