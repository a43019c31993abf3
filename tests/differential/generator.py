"""Random calls, valid and invalid, made from what the oracle has answered so far."""

from __future__ import annotations

from typing import Any

from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.filters import random_filter
from tests.differential.messages import (
    EXTERNAL_IDS,
    KINDS,
    NAMES,
    TYPE_NAMES,
    URIS,
    Messages,
)

__all__ = ["KINDS", "Generator"]

RpcCall = tuple[str, Any]

_ORDER = mlmd.ListOperationOptions.OrderByField
_MASK_PATHS = (
    "uri",
    "state",
    "last_known_state",
    "external_id",
    "name",
    "properties",
    "properties.int",
    "properties.unknown",
    "custom_properties",
    "custom_properties.c.dot",
    "custom_properties.c_int",
    "type_id",
    "nonsense",
    "id",
    "type",
    "properties.string",
    "properties.struct",
    "custom_properties.",
    "custom_properties.C_Upper",
    "create_time_since_epoch",
    "last_update_time_since_epoch",
    "system_metadata",
    "",
)


class Generator(Messages):
    """Makes the next call; remembers what the oracle has answered."""

    def next_call(self) -> RpcCall:
        for kind in KINDS:
            if not self.type_ids[kind]:
                return self.put_type(kind, first=True)
        makers = {
            self.put_type: 2,
            self.put_types: 1,
            self.put_nodes: 4,
            self.put_events: 2,
            self.put_execution: 4,
            self.put_lineage: 2,
            self.put_links: 3,
            self.get_nodes: 3,
            self.get_types: 2,
            self.get_links: 3,
            self.get_by_key: 2,
            self.list_nodes: 4,
            self.lineage: 2,
        }
        return self.random.choices([*makers], [*makers.values()])[0]()

    def learn(self, rpc: str, request: Any, response: Any) -> None:
        """Take in what the oracle has answered to a call."""
        for kind in KINDS:
            if rpc == f"Put{kind.capitalize()}Type":
                self.type_ids[kind].append(response.type_id)
            elif rpc == "PutTypes":
                self.type_ids[kind] += getattr(response, f"{kind}_type_ids")
            elif rpc.startswith("Put"):
                for name in (f"{kind}_ids", f"{kind}_id"):
                    if name in response.DESCRIPTOR.fields_by_name:
                        ids = getattr(response, name)
                        found = [ids] if isinstance(ids, int) else ids
                        self.node_ids[kind] += [id_ for id_ in found if id_ > 0]
            elif rpc == f"Get{kind.capitalize()}sByID":
                self.read_back[kind] += getattr(response, f"{kind}s")

    # Puts

    def put_type(self, kind: str | None = None, *, first: bool = False) -> RpcCall:
        kind = kind or self.random.choice(KINDS)
        request = getattr(service, f"Put{kind.capitalize()}TypeRequest")()
        node_type = getattr(request, f"{kind}_type")
        node_type.CopyFrom(self.node_type(kind))
        if first:
            node_type.name = "T0"
            node_type.ClearField("version")
            node_type.ClearField("base_type")
        self._set_type_options(request)
        return f"Put{kind.capitalize()}Type", request

    def put_types(self) -> RpcCall:
        request = service.PutTypesRequest()
        for kind in KINDS:
            external_ids: dict[tuple[str, str], str] = {}
            for _ in range(self.random.randrange(3)):
                node_type = getattr(request, f"{kind}_types").add()
                node_type.CopyFrom(self.node_type(kind))
                # Upstream empties the external id of a new type when the same request repeats the
                # type without it.
                key = (node_type.name, node_type.version)
                node_type.external_id = external_ids.setdefault(key, node_type.external_id)
                if not node_type.external_id:
                    node_type.ClearField("external_id")
        self._set_type_options(request)
        return "PutTypes", request

    def _set_type_options(self, request: Any) -> None:
        request.can_add_fields = self.chance(0.8)
        request.can_omit_fields = self.chance(0.8)
        if self.chance(0.02):
            request.all_fields_match = False

    def put_nodes(self) -> RpcCall:
        kind = self.random.choice(KINDS)
        plural = f"{kind}s"
        request = getattr(service, f"Put{plural.capitalize()}Request")()
        for _ in range(self.random.choice((0, 1, 1, 1, 2, 4))):
            getattr(request, plural).append(self.node(kind))
        if self.chance(0.25):
            paths = self.random.sample(_MASK_PATHS, self.random.randrange(1, 4))
            request.update_mask.paths.extend(paths)
        if kind == "artifact" and self.chance(0.25):
            request.options.abort_if_latest_updated_time_changed = self.chance(0.9)
        return f"Put{plural.capitalize()}", request

    def put_events(self) -> RpcCall:
        request = service.PutEventsRequest()
        for _ in range(self.random.choice((1, 1, 1, 2))):
            event = request.events.add()
            event.CopyFrom(self.event())
            if self.chance(0.98):
                event.artifact_id = self.known_id("artifact")
            if self.chance(0.98):
                event.execution_id = self.known_id("execution")
        return "PutEvents", request

    def put_execution(self) -> RpcCall:
        request = service.PutExecutionRequest()
        if self.chance(0.98):
            request.execution.CopyFrom(self.node("execution", update=0.2))
        for _ in range(self.random.choice((0, 1, 1, 2, 3))):
            self._add_pair(request)
        for _ in range(self.random.choice((0, 0, 1, 2))):
            context = request.contexts.add()
            context.CopyFrom(self.node("context", update=0.2))
            if self.chance(0.9) and not context.HasField("id"):
                context.type_id = self.random.choice(self.type_ids["context"])
        if not request.contexts and self.chance(0.1):
            # With a context, upstream attributes it to artifact -1 (contract Q10).
            request.artifact_event_pairs.add()
        options = request.options
        options.reuse_context_if_already_exist = self.chance(0.7)
        options.reuse_artifact_if_already_exist_by_external_id = self.chance(0.5)
        options.force_reuse_context = self.chance(0.2)
        options.force_update_time = self.chance(0.2)
        return "PutExecution", request

    def _add_pair(self, request: service.PutExecutionRequest) -> None:
        if self.chance(0.7):
            pair = request.artifact_event_pairs.add()
            pair.artifact.CopyFrom(self.node("artifact", update=0.5))
            if self.chance(0.9):
                pair.event.CopyFrom(self.event())
                if pair.artifact.HasField("id") and self.chance(0.2):
                    pair.event.artifact_id = self.random.choice((pair.artifact.id, 1))
        elif self.node_ids["artifact"]:
            # An id that no artifact has is taken upstream (contract Q11).
            pair = request.artifact_event_pairs.add()
            pair.event.CopyFrom(self.event())
            pair.event.artifact_id = self.random.choice(self.node_ids["artifact"])
        else:
            return
        if request.execution.HasField("id") and pair.HasField("event") and self.chance(0.2):
            pair.event.execution_id = self.random.choice((request.execution.id, 1))

    def put_lineage(self) -> RpcCall:
        request = service.PutLineageSubgraphRequest()
        for kind in KINDS:
            for _ in range(self.random.randrange(3)):
                node = self.node(kind, update=0.2)
                if node.HasField("id") and self.chance(0.7):
                    self._set_own_type_id(kind, node)
                getattr(request, f"{kind}s").append(node)
        for _ in range(self.random.randrange(3)):
            edge = request.event_edges.add()
            edge.event.CopyFrom(self.event())
            for kind in ("execution", "artifact"):
                self._set_edge_end(edge, kind, getattr(request, f"{kind}s"))
        request.options.reuse_context_if_already_exist = self.chance(0.7)
        request.options.reuse_artifact_if_already_exist_by_external_id = self.chance(0.5)
        return "PutLineageSubgraph", request

    def _set_own_type_id(self, kind: str, node: Any) -> None:
        for known in self.read_back[kind]:
            if known.id == node.id:
                node.type_id = known.type_id

    def _set_edge_end(self, edge: Any, kind: str, nodes: Any) -> None:
        if nodes and self.chance(0.8):
            setattr(edge, f"{kind}_index", self.random.randrange(len(nodes)))
        elif self.node_ids[kind]:
            setattr(edge.event, f"{kind}_id", self.random.choice(self.node_ids[kind]))
        if self.chance(0.02):
            setattr(edge, f"{kind}_index", self.random.choice((-1, 50)))

    def put_links(self) -> RpcCall:
        if self.chance(0.4):
            parents = service.PutParentContextsRequest()
            link = parents.parent_contexts.add()
            if self.chance(0.97):
                link.child_id = self.known_id("context")
            link.parent_id = self.known_id("context")
            return "PutParentContexts", parents
        request = service.PutAttributionsAndAssociationsRequest()
        for _ in range(self.random.randrange(4)):
            request.attributions.add(
                artifact_id=self.known_id("artifact"), context_id=self.known_id("context")
            )
        for _ in range(self.random.randrange(4)):
            request.associations.add(
                execution_id=self.known_id("execution"), context_id=self.known_id("context")
            )
        return "PutAttributionsAndAssociations", request

    # Gets

    def get_nodes(self) -> RpcCall:
        kind = self.random.choice(KINDS)
        rpc = f"Get{kind.capitalize()}sByID"
        request = getattr(service, f"{rpc}Request")()
        getattr(request, f"{kind}_ids").extend(
            self.known_id(kind) for _ in range(self.random.randrange(6))
        )
        if kind == "artifact":
            request.populate_artifact_types = self.chance(0.3)
        return rpc, request

    def get_types(self) -> RpcCall:
        kind = self.random.choice(KINDS)
        stem = f"Get{kind.capitalize()}Type"
        which = self.random.randrange(4)
        if which == 0:
            return f"{stem}s", getattr(service, f"{stem}sRequest")()
        if which == 1:
            ids = [self.random.choice((*self.type_ids[kind], 1, 6, 99)) for _ in range(3)]
            return f"{stem}sByID", getattr(service, f"{stem}sByIDRequest")(type_ids=ids)
        if which == 2:
            wanted = [
                f"{kind}-{external_id}" for external_id in self.random.sample(EXTERNAL_IDS, 3)
            ]
            if self.chance(0.05):
                wanted.append("")
            request = getattr(service, f"{stem}sByExternalIdsRequest")(external_ids=wanted)
            return f"{stem}sByExternalIds", request
        name = self.random.choice((*TYPE_NAMES, "T0", "T0", "mlmd.Train", "", "none"))
        request = getattr(service, f"{stem}Request")(type_name=name)
        if self.chance(0.3):
            request.type_version = self.random.choice(("v1", ""))
        return stem, request

    def get_links(self) -> RpcCall:
        rpc, field_name, kind = self.random.choice(
            (
                ("GetEventsByArtifactIDs", "artifact_ids", "artifact"),
                ("GetEventsByExecutionIDs", "execution_ids", "execution"),
                ("GetContextsByArtifact", "artifact_id", "artifact"),
                ("GetContextsByExecution", "execution_id", "execution"),
                ("GetArtifactsByContext", "context_id", "context"),
                ("GetExecutionsByContext", "context_id", "context"),
                ("GetParentContextsByContext", "context_id", "context"),
                ("GetChildrenContextsByContext", "context_id", "context"),
            )
        )
        request = getattr(service, f"{rpc}Request")()
        if field_name.endswith("s"):
            ids = [self.known_id(kind) for _ in range(self.random.randrange(6))]
            getattr(request, field_name).extend(ids)
        else:
            setattr(request, field_name, self.known_id(kind))
            if kind == "context" and "options" in request.DESCRIPTOR.fields_by_name:
                self._set_list_options(request, rpc)
        return rpc, request

    def list_nodes(self) -> RpcCall:
        kind = self.random.choice(KINDS)
        rpc = f"Get{kind.capitalize()}s"
        if self.chance(0.3):
            rpc += "ByType"
        request = getattr(service, f"{rpc}Request")()
        if rpc.endswith("ByType"):
            request.type_name = self.random.choice((*TYPE_NAMES, "T0", "T0", "none"))
        self._set_list_options(request, rpc)
        return rpc, request

    def _set_list_options(self, request: Any, rpc: str) -> None:
        if self.chance(0.2):
            return
        options = request.options
        options.max_result_size = self.random.choice((1, 2, 3, 5, 20, 99, 100))
        if self.chance(0.04):
            options.max_result_size = self.random.choice((0, -1))
        if self.chance(0.5):
            options.order_by_field.field = self.random.choice(
                (_ORDER.CREATE_TIME, _ORDER.LAST_UPDATE_TIME, _ORDER.ID)
            )
            if options.order_by_field.field == _ORDER.LAST_UPDATE_TIME:
                # Upstream walks in circles when more rows tie than fit a page (contract Q24).
                options.max_result_size = 100
        if self.chance(0.4):
            options.order_by_field.is_asc = False
        if self.chance(0.35):
            kind = next(kind for kind in KINDS if rpc.startswith(f"Get{kind.capitalize()}"))
            options.filter_query = random_filter(self.random, kind)

    def get_by_key(self) -> RpcCall:
        kind = self.random.choice(KINDS)
        which = self.random.randrange(3)
        if which == 0:
            rpc = f"Get{kind.capitalize()}sByExternalIds"
            wanted = [
                f"{self.random.choice(EXTERNAL_IDS)}{self.random.randrange(9)}"
                for _ in range(self.random.randrange(4))
            ]
            if self.chance(0.8):
                wanted += [node.external_id for node in self.read_back[kind] if node.external_id]
            if self.chance(0.03):
                wanted.append("")
            return rpc, getattr(service, f"{rpc}Request")(external_ids=wanted)
        if which == 1:
            uris = self.random.choices((*URIS, "none"), k=self.random.randrange(4))
            return "GetArtifactsByURI", service.GetArtifactsByURIRequest(uris=uris)
        rpc = f"Get{kind.capitalize()}ByTypeAndName"
        request = getattr(service, f"{rpc}Request")(type_name=self.random.choice(TYPE_NAMES))
        name = self.random.choice(NAMES) + self.random.choice(("", "1", "7"))
        if self.read_back[kind] and self.chance(0.7):
            known = self.random.choice(self.read_back[kind])
            request.type_name, name = known.type, known.name
        setattr(request, f"{kind}_name", name)
        if self.chance(0.1):
            request.type_version = self.random.choice(("v1", ""))
        return rpc, request

    def lineage(self) -> RpcCall:
        request = service.GetLineageSubgraphRequest()
        options = request.lineage_subgraph_query_options
        kind = self.random.choice(("artifact", "execution"))
        if self.chance(0.97):
            starting = getattr(options, f"starting_{kind}s")
            starting.filter_query = self.random.choice(("id > 0", "id <= 2", "id = 1"))
            if self.chance(0.2):
                starting.filter_query = random_filter(self.random, kind)
        if self.chance(0.7):
            options.max_num_hops = self.random.choice((0, 1, 2, 3, 20))
            if self.chance(0.03):
                options.max_num_hops = -1
        if self.chance(0.7):
            options.direction = self.random.randrange(4)
        for ending in ("artifact", "execution"):
            if self.chance(0.25):
                nodes = getattr(options, f"ending_{ending}s")
                nodes.filter_query = self.random.choice(("id = 2", "id > 3", "FALSE"))
                nodes.include_ending_nodes = self.chance(0.5)
        fields = [f.name for f in mlmd.LineageGraph.DESCRIPTOR.fields]
        if self.chance(0.3):
            paths = [*self.random.sample(fields, 3), *(["nonsense"] if self.chance(0.1) else [])]
            request.read_mask.paths.extend(paths)
        return "GetLineageSubgraph", request
