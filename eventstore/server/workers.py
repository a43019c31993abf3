"""Several processes that answer on the same ports, and one that starts, watches and ends them.

The kernel gives each connection to one of them.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from queue import SimpleQueue
from typing import Final

import msgspec
from msgspec import Struct

from eventstore.errors import UnavailableError
from eventstore.late_logger import late_logger

_LOGGER = late_logger("eventstore.server")

_VARIABLE: Final = "EVENTSTORE_WORKER"
_FIRST_PAUSE_SECONDS: Final = 0.5
_LONGEST_PAUSE_SECONDS: Final = 30.0
_HEALTHY_SECONDS: Final = 60.0
"""After a worker that ended sooner the next pause is twice as long."""

_TRIES: Final = 6


class Worker(Struct, frozen=True):
    """One of the processes: its number, from 0, and the ports that they share."""

    number: int
    port: int
    web_port: int | None


def this_worker() -> Worker | None:
    """Which worker this process is, if it is one."""
    said = os.environ.pop(_VARIABLE, None)
    return None if said is None else msgspec.json.decode(said, type=Worker)


def report_serving(lines: list[str]) -> None:
    """Tell the process that has started this worker that it serves, and what to say of it."""
    sys.stdout.write(msgspec.json.encode(lines).decode() + "\n")
    sys.stdout.flush()


def when_left_alone(end: Callable[[], object]) -> None:
    """Call `end` when the process that has started this worker is gone, however it ended."""

    def watch() -> None:
        # Nothing is ever written there.
        with suppress(OSError):
            os.read(0, 1)
        end()

    threading.Thread(target=watch, name="parent", daemon=True).start()


@contextmanager
def shared_port(host: str, port: int) -> Iterator[int]:
    """A block in which a port, any free one for 0, is kept for processes that share it.

    Nobody listens on it by this. Raises UnavailableError where it is taken or not there.
    """
    with ExitStack() as kept:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            missing = list[OSError]()
            for family, kind, protocol, _, address in found:
                each = kept.enter_context(socket.socket(family, kind, protocol))
                each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
                try:
                    each.bind((address[0], port, *address[2:]))
                    port = int(each.getsockname()[1])
                except OSError as error:
                    missing.append(error)
            if len(missing) == len(found):
                raise missing[0]
        except OSError as error:
            raise UnavailableError(f"cannot listen on {host}:{port}: {error.strerror}") from None
        yield port


class _State:
    """Of one worker: `failures` is how often in a row it has ended before it served."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.began = 0.0
        self.pause = _FIRST_PAUSE_SECONDS
        self.is_serving = False
        self.failures = 0


class Workers:
    """Starts workers with the arguments of this process, and starts again those that end."""

    def __init__(
        self, count: int, port: int, web_port: int | None, say: Callable[[str], None]
    ) -> None:
        """`say` gets each line that workers report, once, when all serve."""
        self._port = port
        self._web_port = web_port
        self._say = say
        self._events = SimpleQueue[Callable[[], None]]()
        self._states = [_State() for _ in range(count)]
        self._lines: dict[str, None] = {}
        self._have_all_served = False
        self._is_ending = False
        self._has_failed = False

    def run(self) -> bool:
        """Keep them running until `end`, or until one cannot be started; whether all went well.

        The first starts alone, since it may have to make the store. It returns when all have ended.
        """
        try:
            self._start(0)
            while any(state.process for state in self._states) or not self._is_ending:
                self._events.get()()
        finally:
            # Something may have been raised amid the loop, as by a signal.
            for state in self._states:
                if state.process is not None:
                    state.process.terminate()
                    state.process.wait()
        return not self._has_failed

    def end(self) -> None:
        """Have all workers end as by SIGTERM. Any thread may call it."""
        self._events.put(self._end)

    def _end(self) -> None:
        self._is_ending = True
        for state in self._states:
            if state.process is not None:
                state.process.terminate()

    def _start(self, number: int) -> None:
        if self._is_ending:
            return
        worker = Worker(number, self._port, self._web_port)
        process = subprocess.Popen(  # noqa: S603
            [sys.executable, "-m", "eventstore", *sys.argv[1:]],
            env={**os.environ, _VARIABLE: msgspec.json.encode(worker).decode()},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # A terminal's interrupt comes to this process alone, which passes it on.
            start_new_session=True,
        )
        state = self._states[number]
        state.process, state.began, state.is_serving = process, time.monotonic(), False
        threading.Thread(target=self._follow, args=(number, process), daemon=True).start()

    def _follow(self, number: int, process: subprocess.Popen[str]) -> None:
        """Turn what a worker does into events."""
        with process:
            assert process.stdout is not None
            for line in process.stdout:
                lines = msgspec.json.decode(line, type=list[str])
                self._events.put(partial(self._serves, number, lines))
            code = process.wait()
        self._events.put(partial(self._ended, number, code))

    def _serves(self, number: int, lines: list[str]) -> None:
        state = self._states[number]
        state.is_serving, state.failures = True, 0
        new = [line for line in lines if line not in self._lines]
        self._lines.update(dict.fromkeys(new))
        if self._have_all_served:
            _LOGGER.warning("worker %d serves again", number)
            for line in new:
                self._say(line)
        elif all(each.is_serving for each in self._states):
            self._have_all_served = True
            for line in self._lines:
                self._say(line)
        elif number == 0:
            for other in range(1, len(self._states)):
                self._start(other)

    def _ended(self, number: int, code: int) -> None:
        state = self._states[number]
        state.process = None
        if self._is_ending:
            # One that does not serve yet is ended by the signal, and nobody waits for it.
            self._has_failed = self._has_failed or (state.is_serving and code != 0)
        elif not self._have_all_served:
            # It has said why.
            self._give_up(f"worker {number} could not start ({_how(code)})")
        elif not state.is_serving and state.failures + 1 >= _TRIES:
            self._give_up(f"worker {number} could not be started {_TRIES} times in a row")
        else:
            state.failures += not state.is_serving
            self._start_later(number, code)

    def _give_up(self, why: str) -> None:
        _LOGGER.error("%s: the server ends", why)
        self._has_failed = True
        self._end()

    def _start_later(self, number: int, code: int) -> None:
        state = self._states[number]
        if time.monotonic() - state.began >= _HEALTHY_SECONDS:
            state.pause = _FIRST_PAUSE_SECONDS
        _LOGGER.error(
            "worker %d ended (%s): it starts again in %g s", number, _how(code), state.pause
        )
        again = threading.Timer(state.pause, self._events.put, [partial(self._start, number)])
        again.daemon = True
        again.start()
        state.pause = min(2 * state.pause, _LONGEST_PAUSE_SECONDS)


def _how(code: int) -> str:
    if code >= 0:
        return f"exit code {code}"
    with suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
