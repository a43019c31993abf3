"""Recording in a line: a run of code as an execution with its inputs, outputs and surroundings.

Public: `Run`, which `store.run(...)` makes.
"""

from eventstore.recording.run import Run

__all__ = ["Run"]
