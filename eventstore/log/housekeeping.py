"""One job at a time of those in the background, so that what they take in memory does not add up.

They are the sealing of segments, the merging of runs and the folding of what is sealed.
"""

from __future__ import annotations

import threading

from eventstore.log.forking import renew_in_children


class _Housekeeping:
    def __init__(self) -> None:
        self.lock = threading.Lock()
        renew_in_children(self)

    def after_fork_in_child(self) -> None:
        """The thread that may have held it is not there."""
        self.lock = threading.Lock()


_housekeeping = _Housekeeping()


def housekeeping_lock() -> threading.Lock:
    """The lock of this process that such a job holds, and no put waits for."""
    return _housekeeping.lock
