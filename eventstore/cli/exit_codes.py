"""What a command tells the shell: 0 when it is done, and these."""

from __future__ import annotations

from typing import Final

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
EXIT_DAMAGED: Final = 3
"""What was checked does not hold: a store is damaged, or something is not what was signed."""

EXIT_CACHE_DISAGREES: Final = 4
"""The log is sound, and a cache of it does not agree with it."""

EXIT_INTERRUPTED: Final = 130
EXIT_PIPE_CLOSED: Final = 141
