from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class AnswerPart(_message.Message):
    __slots__ = ["arrow", "is_continued", "progress", "values"]
    ARROW_FIELD_NUMBER: _ClassVar[int]
    IS_CONTINUED_FIELD_NUMBER: _ClassVar[int]
    PROGRESS_FIELD_NUMBER: _ClassVar[int]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    arrow: bytes
    is_continued: bool
    progress: Progress
    values: _containers.RepeatedScalarFieldContainer[bytes]
    def __init__(self, values: _Optional[_Iterable[bytes]] = ..., is_continued: bool = ..., arrow: _Optional[bytes] = ..., progress: _Optional[_Union[Progress, _Mapping]] = ...) -> None: ...

class Arguments(_message.Message):
    __slots__ = ["values", "wants_progress"]
    VALUES_FIELD_NUMBER: _ClassVar[int]
    WANTS_PROGRESS_FIELD_NUMBER: _ClassVar[int]
    values: bytes
    wants_progress: bool
    def __init__(self, values: _Optional[bytes] = ..., wants_progress: bool = ...) -> None: ...

class Progress(_message.Message):
    __slots__ = ["done", "in_all"]
    DONE_FIELD_NUMBER: _ClassVar[int]
    IN_ALL_FIELD_NUMBER: _ClassVar[int]
    done: int
    in_all: int
    def __init__(self, done: _Optional[int] = ..., in_all: _Optional[int] = ...) -> None: ...
