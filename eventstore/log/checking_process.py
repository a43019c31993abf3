"""A process that checks segments for another: `python -m eventstore.log.checking_process`."""

from __future__ import annotations

import sys

import msgspec

from eventstore.errors import StatusError, make_exception
from eventstore.log.rows_check import CheckedSegment
from eventstore.log.segment_check import SegmentJob, check_segment


class Answer(msgspec.Struct):
    """What is said of a segment: the result, or the error's text and code."""

    checked: CheckedSegment | None = None
    error: tuple[str, int] | None = None

    def result(self) -> CheckedSegment:
        if self.error is not None:
            raise make_exception(*self.error)
        assert self.checked is not None
        return self.checked


def serve() -> None:
    """Check the jobs that come in, a line of JSON each, and answer each with a line."""
    for line in sys.stdin.buffer:
        try:
            answer = Answer(check_segment(msgspec.json.decode(line, type=SegmentJob)))
        except StatusError as error:
            answer = Answer(error=(error.message, error.error_code))
        sys.stdout.buffer.write(msgspec.json.encode(answer) + b"\n")
        sys.stdout.buffer.flush()


if __name__ == "__main__":
    serve()
