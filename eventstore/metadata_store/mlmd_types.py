"""The system types, to derive one's own types from: `base_type=Dataset().system_type`."""

from __future__ import annotations

from eventstore.proto import metadata_store_pb2 as mlmd


class ArtifactType:
    """Base of the system artifact types."""

    def __init__(self, name: str, system_type: mlmd.ArtifactType.SystemDefinedBaseType) -> None:
        self.name = name
        self.system_type = system_type


class ExecutionType:
    """Base of the system execution types."""

    def __init__(self, name: str, system_type: mlmd.ExecutionType.SystemDefinedBaseType) -> None:
        self.name = name
        self.system_type = system_type


class Dataset(ArtifactType):
    """`mlmd.Dataset`."""

    def __init__(self) -> None:
        super().__init__("mlmd.Dataset", mlmd.ArtifactType.DATASET)


class Model(ArtifactType):
    """`mlmd.Model`."""

    def __init__(self) -> None:
        super().__init__("mlmd.Model", mlmd.ArtifactType.MODEL)


class Metrics(ArtifactType):
    """`mlmd.Metrics`."""

    def __init__(self) -> None:
        super().__init__("mlmd.Metrics", mlmd.ArtifactType.METRICS)


class Statistics(ArtifactType):
    """`mlmd.Statistics`."""

    def __init__(self) -> None:
        super().__init__("mlmd.Statistics", mlmd.ArtifactType.STATISTICS)


class Train(ExecutionType):
    """`mlmd.Train`."""

    def __init__(self) -> None:
        super().__init__("mlmd.Train", mlmd.ExecutionType.TRAIN)


class Transform(ExecutionType):
    """`mlmd.Transform`."""

    def __init__(self) -> None:
        super().__init__("mlmd.Transform", mlmd.ExecutionType.TRANSFORM)


class Process(ExecutionType):
    """`mlmd.Process`."""

    def __init__(self) -> None:
        super().__init__("mlmd.Process", mlmd.ExecutionType.PROCESS)


class Evaluate(ExecutionType):
    """`mlmd.Evaluate`."""

    def __init__(self) -> None:
        super().__init__("mlmd.Evaluate", mlmd.ExecutionType.EVALUATE)


class Deploy(ExecutionType):
    """`mlmd.Deploy`."""

    def __init__(self) -> None:
        super().__init__("mlmd.Deploy", mlmd.ExecutionType.DEPLOY)
