from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from typing import ClassVar as _ClassVar, Iterable as _Iterable, Mapping as _Mapping, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Entity(_message.Message):
    __slots__ = ["id", "kind"]
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    id: int
    kind: str
    def __init__(self, kind: _Optional[str] = ..., id: _Optional[int] = ...) -> None: ...

class ErasedFile(_message.Message):
    __slots__ = ["new_sha256", "old_sha256", "segment"]
    NEW_SHA256_FIELD_NUMBER: _ClassVar[int]
    OLD_SHA256_FIELD_NUMBER: _ClassVar[int]
    SEGMENT_FIELD_NUMBER: _ClassVar[int]
    new_sha256: bytes
    old_sha256: bytes
    segment: int
    def __init__(self, segment: _Optional[int] = ..., old_sha256: _Optional[bytes] = ..., new_sha256: _Optional[bytes] = ...) -> None: ...

class ErasedRange(_message.Message):
    __slots__ = ["content", "first_position", "last_position", "redacted_properties", "replaced_by", "who"]
    CONTENT_FIELD_NUMBER: _ClassVar[int]
    FIRST_POSITION_FIELD_NUMBER: _ClassVar[int]
    LAST_POSITION_FIELD_NUMBER: _ClassVar[int]
    REDACTED_PROPERTIES_FIELD_NUMBER: _ClassVar[int]
    REPLACED_BY_FIELD_NUMBER: _ClassVar[int]
    WHO_FIELD_NUMBER: _ClassVar[int]
    content: bool
    first_position: int
    last_position: int
    redacted_properties: _containers.RepeatedScalarFieldContainer[str]
    replaced_by: int
    who: bool
    def __init__(self, first_position: _Optional[int] = ..., last_position: _Optional[int] = ..., content: bool = ..., who: bool = ..., redacted_properties: _Optional[_Iterable[str]] = ..., replaced_by: _Optional[int] = ...) -> None: ...

class Erasure(_message.Message):
    __slots__ = ["basis", "contents_erased", "files", "id", "is_repeated", "ranges", "rule_position", "stage", "ticket", "whos_erased"]
    class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    BASIS_FIELD_NUMBER: _ClassVar[int]
    COMPLETED: Erasure.Stage
    CONTENTS_ERASED_FIELD_NUMBER: _ClassVar[int]
    FILES_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    IS_REPEATED_FIELD_NUMBER: _ClassVar[int]
    PROPOSED: Erasure.Stage
    RANGES_FIELD_NUMBER: _ClassVar[int]
    REQUESTED: Erasure.Stage
    RULE_POSITION_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STAGE_UNSPECIFIED: Erasure.Stage
    TICKET_FIELD_NUMBER: _ClassVar[int]
    WHOS_ERASED_FIELD_NUMBER: _ClassVar[int]
    WITHDRAWN: Erasure.Stage
    basis: str
    contents_erased: int
    files: _containers.RepeatedCompositeFieldContainer[ErasedFile]
    id: int
    is_repeated: bool
    ranges: _containers.RepeatedCompositeFieldContainer[ErasedRange]
    rule_position: int
    stage: Erasure.Stage
    ticket: str
    whos_erased: int
    def __init__(self, id: _Optional[int] = ..., stage: _Optional[_Union[Erasure.Stage, str]] = ..., ranges: _Optional[_Iterable[_Union[ErasedRange, _Mapping]]] = ..., basis: _Optional[str] = ..., ticket: _Optional[str] = ..., rule_position: _Optional[int] = ..., contents_erased: _Optional[int] = ..., whos_erased: _Optional[int] = ..., files: _Optional[_Iterable[_Union[ErasedFile, _Mapping]]] = ..., is_repeated: bool = ...) -> None: ...

class Hold(_message.Message):
    __slots__ = ["basis", "id", "is_repeated", "needs_approval", "release_ticket", "scope", "stage", "ticket"]
    class Stage(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = []
    BASIS_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    IS_REPEATED_FIELD_NUMBER: _ClassVar[int]
    NEEDS_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    PLACED: Hold.Stage
    RELEASED: Hold.Stage
    RELEASE_PROPOSED: Hold.Stage
    RELEASE_TICKET_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    STAGE_FIELD_NUMBER: _ClassVar[int]
    STAGE_UNSPECIFIED: Hold.Stage
    TICKET_FIELD_NUMBER: _ClassVar[int]
    basis: str
    id: int
    is_repeated: bool
    needs_approval: bool
    release_ticket: str
    scope: Scope
    stage: Hold.Stage
    ticket: str
    def __init__(self, id: _Optional[int] = ..., scope: _Optional[_Union[Scope, _Mapping]] = ..., stage: _Optional[_Union[Hold.Stage, str]] = ..., basis: _Optional[str] = ..., ticket: _Optional[str] = ..., release_ticket: _Optional[str] = ..., needs_approval: bool = ..., is_repeated: bool = ...) -> None: ...

class RetentionRule(_message.Message):
    __slots__ = ["basis", "id", "includes_current", "is_withdrawn", "keep_at_least_seconds", "keep_at_most_seconds", "needs_approval", "scope", "ticket"]
    BASIS_FIELD_NUMBER: _ClassVar[int]
    ID_FIELD_NUMBER: _ClassVar[int]
    INCLUDES_CURRENT_FIELD_NUMBER: _ClassVar[int]
    IS_WITHDRAWN_FIELD_NUMBER: _ClassVar[int]
    KEEP_AT_LEAST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    KEEP_AT_MOST_SECONDS_FIELD_NUMBER: _ClassVar[int]
    NEEDS_APPROVAL_FIELD_NUMBER: _ClassVar[int]
    SCOPE_FIELD_NUMBER: _ClassVar[int]
    TICKET_FIELD_NUMBER: _ClassVar[int]
    basis: str
    id: int
    includes_current: bool
    is_withdrawn: bool
    keep_at_least_seconds: int
    keep_at_most_seconds: int
    needs_approval: bool
    scope: Scope
    ticket: str
    def __init__(self, id: _Optional[int] = ..., scope: _Optional[_Union[Scope, _Mapping]] = ..., keep_at_least_seconds: _Optional[int] = ..., keep_at_most_seconds: _Optional[int] = ..., includes_current: bool = ..., basis: _Optional[str] = ..., ticket: _Optional[str] = ..., is_withdrawn: bool = ..., needs_approval: bool = ...) -> None: ...

class Scope(_message.Message):
    __slots__ = ["context_ids", "entities", "filter", "kinds", "type_ids"]
    CONTEXT_IDS_FIELD_NUMBER: _ClassVar[int]
    ENTITIES_FIELD_NUMBER: _ClassVar[int]
    FILTER_FIELD_NUMBER: _ClassVar[int]
    KINDS_FIELD_NUMBER: _ClassVar[int]
    TYPE_IDS_FIELD_NUMBER: _ClassVar[int]
    context_ids: _containers.RepeatedScalarFieldContainer[int]
    entities: _containers.RepeatedCompositeFieldContainer[Entity]
    filter: str
    kinds: _containers.RepeatedScalarFieldContainer[str]
    type_ids: _containers.RepeatedScalarFieldContainer[int]
    def __init__(self, kinds: _Optional[_Iterable[str]] = ..., type_ids: _Optional[_Iterable[int]] = ..., context_ids: _Optional[_Iterable[int]] = ..., entities: _Optional[_Iterable[_Union[Entity, _Mapping]]] = ..., filter: _Optional[str] = ...) -> None: ...
