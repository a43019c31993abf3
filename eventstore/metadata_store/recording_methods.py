"""What a store offers to record code as it runs."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from eventstore.metadata_store.writer import MetadataWriter

if TYPE_CHECKING:
    from eventstore.recording import Run
    from eventstore.recording.inputs import Inputs


class RecordingMethods(MetadataWriter):
    """A run in a line: types, execution, events, contexts and states are put as needed."""

    def run(
        self,
        execution_type: str,
        /,
        *,
        name: str | None = None,
        inputs: Inputs = (),
        contexts: Mapping[str, str | Iterable[str]] | None = None,
        properties: Mapping[str, Any] | None = None,
        capture: bool = True,
        **more: Any,
    ) -> Run:
        """Record a run of code in a `with` block, or each call of a function, as a decorator.

        `inputs` are artifacts or their ids, in a list or by name; `contexts` maps names of types to
        names of contexts. Keyword arguments are properties of the execution; `properties` takes
        those whose names are not Python identifiers, or are parameters of this method. Types are
        made, and given the properties that they lack, as needed; a value of another kind than the
        type declares becomes a custom property. With `capture` the version of the code (git) and
        the environment are recorded, too. What is recorded is plain MLMD: see docs/recording.md.

        >>> with store.run("Trainer", inputs=[dataset], learning_rate=0.1) as run:
        ...     model = run.output("Model", uri="models/1", accuracy=0.93)
        """
        from eventstore.recording import Run
        from eventstore.recording.texts import all_properties

        return Run(
            self,
            execution_type,
            name=name,
            inputs=inputs,
            contexts=contexts,
            properties=all_properties(properties, more),
            capture=capture,
        )
