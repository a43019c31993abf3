"""Random calls, valid and invalid, made from what the oracle has answered so far."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from typing import Any

from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from tests.differential.filters import random_filter

KINDS = ("artifact", "execution", "context")
_TYPED = {
    "int": mlmd.INT,
    "double": mlmd.DOUBLE,
    "string": mlmd.STRING,
    "struct": mlmd.STRUCT,
    "bool": mlmd.BOOLEAN,
}
# Not those of typed properties: upstream mixes the two up on an update (contract Q1).
_CUSTOM = ("c_int", "c.dot", "", "C_Upper")
_NAMES = ("n1", "n2", "n3", "ä")
_URIS = ("", "s3://a", "s3://b")
_EXTERNAL_IDS = ("x1", "x2", "x3", "x4")
_STRINGS = ("", "a", "Ab", "it's", "ö")
_UPDATE_TIME = mlmd.ListOperationOptions.OrderByField.LAST_UPDATE_TIME


@dataclass
class Generator:
    """Makes the next call; remembers what the oracle has answered."""

    random: random.Random
    type_ids: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    node_ids: dict[str, list[int]] = field(default_factory=lambda: {kind: [] for kind in KINDS})
    read_back: dict[str, list[Any]] = field(default_factory=lambda: {kind: [] for kind in KINDS})

    def next_call(self) -> tuple[str, Any]:
        puts = [self.put_type, self.put_nodes, self.put_nodes, self.put_events]
        puts += [self.put_execution, self.put_execution, self.put_lineage, self.put_links]
        makers = [*puts, self.get_nodes, self.get_types, self.get_links, self.list_nodes]
        makers += [self.get_by_key, self.lineage]
        if not all(self.type_ids.values()):
            makers = [self.put_type]
        return self.random.choice(makers)()

    def learn(self, rpc: str, request: Any, response: Any) -> None:
        for kind in KINDS:
            if rpc == f"Put{kind.capitalize()}Type":
                self.type_ids[kind].append(response.type_id)
            for name in (f"{kind}_ids", f"{kind}_id"):
                if rpc.startswith("Put") and name in response.DESCRIPTOR.fields_by_name:
                    ids = getattr(response, name)
                    found = [ids] if isinstance(ids, int) else ids
                    self.node_ids[kind] += [i for i in found if i > 0]
            if rpc == f"Get{kind.capitalize()}sByID":
                self.read_back[kind] += getattr(response, f"{kind}s")

    # Puts

    def put_type(self) -> tuple[str, Any]:
        kind = self.random.choice([k for k in KINDS if not self.type_ids[k]] or KINDS)
        node_type = getattr(mlmd, f"{kind.capitalize()}Type")()
        node_type.name = self.random.choice(("T1", "T2", "T3", "mlmd.Dataset", ""))
        if not self.type_ids[kind]:
            node_type.name = "T0"
        if self.chance(0.3):
            node_type.version = self.random.choice(("v1", ""))
        if self.chance(0.2):
            node_type.description = "about"
        if self.chance(0.1):
            node_type.external_id = f"{kind}-{self.random.choice(_EXTERNAL_IDS)}"
        if kind != "context" and self.chance(0.2):
            node_type.base_type = self.random.randrange(3)
        for name in self.random.sample(sorted(_TYPED), self.random.randrange(len(_TYPED) + 1)):
            right = self.chance(0.95)
            node_type.properties[name] = _TYPED[name] if right else self.random.randrange(5)
        request = getattr(service, f"Put{kind.capitalize()}TypeRequest")()
        getattr(request, f"{kind}_type").CopyFrom(node_type)
        request.can_add_fields = self.chance(0.7)
        request.can_omit_fields = self.chance(0.7)
        if self.chance(0.03):
            request.all_fields_match = False
        return f"Put{kind.capitalize()}Type", request

    def put_nodes(self) -> tuple[str, Any]:
        kind = self.random.choice(KINDS)
        plural = f"{kind}s"
        request = getattr(service, f"Put{plural.capitalize()}Request")()
        for _ in range(self.random.choice((0, 1, 1, 1, 2))):
            getattr(request, plural).append(self.node(kind))
        if self.chance(0.2):
            paths = ("uri", "state", "external_id", "properties", "properties.int", "nonsense")
            paths += ("custom_properties.c.dot", "custom_properties", "name", "last_known_state")
            request.update_mask.paths.extend(self.random.sample(paths, 2))
        return f"Put{plural.capitalize()}", request

    def node(self, kind: str, *, update: float = 0.35) -> Any:
        node = getattr(mlmd, kind.capitalize())()
        if self.chance(update) and self.read_back[kind] and self.chance(0.6):
            node.CopyFrom(self.random.choice(self.read_back[kind]))
            if self.chance(0.3):
                return node
            if self.chance(0.3):
                node.ClearField("type")
        elif self.chance(update) and self.node_ids[kind]:
            node.id = self.random.choice(self.node_ids[kind])
        if not node.HasField("id") or self.chance(0.1):
            node.type_id = self.random.choice(self.type_ids[kind])
            if self.chance(0.03):
                node.type_id = self.random.choice((0, 1, 5, 999))
        if self.chance(0.5) or (kind == "context" and self.chance(0.97)):
            node.name = self.random.choice(_NAMES) + (
                str(self.random.randrange(40)) if self.chance(0.8) else ""
            )
        if self.chance(0.15):
            node.external_id = self.random.choice(_EXTERNAL_IDS) + str(self.random.randrange(20))
        if kind == "artifact" and self.chance(0.7):
            node.uri = self.random.choice(_URIS)
        if kind == "artifact" and self.chance(0.4):
            node.state = self.random.randrange(7)
        if kind == "execution" and self.chance(0.4):
            node.last_known_state = self.random.randrange(7)
        if self.chance(0.15):
            name = self.random.choice([*_TYPED, "unknown"])
            self.set_value(node.properties[name], _TYPED.get(name, mlmd.INT))
        for name in self.random.sample(_CUSTOM, self.random.randrange(3)):
            self.set_value(node.custom_properties[name], self.random.choice(list(_TYPED.values())))
        return node

    def set_value(self, value: mlmd.Value, kind: int) -> None:
        if self.chance(0.05):
            kind = self.random.choice(list(_TYPED.values()))
        if kind == mlmd.INT:
            value.int_value = self.random.choice((0, 1, -5, 2**62))
        elif kind == mlmd.DOUBLE:
            value.double_value = self.random.choice((0.0, 0.25, -1.5, 1e10))
        elif kind == mlmd.STRUCT:
            value.struct_value.update({"k": self.random.choice((1, None, "s"))})
        elif kind == mlmd.BOOLEAN:
            value.bool_value = self.chance(0.5)
        else:
            value.string_value = self.random.choice(_STRINGS)

    def put_events(self) -> tuple[str, Any]:
        request = service.PutEventsRequest()
        for _ in range(self.random.choice((1, 1, 2))):
            event = request.events.add()
            event.CopyFrom(self.event())
            if self.chance(0.97):
                event.artifact_id = self.any_id("artifact")
            if self.chance(0.97):
                event.execution_id = self.any_id("execution")
        return "PutEvents", request

    def event(self) -> mlmd.Event:
        event = mlmd.Event()
        if self.chance(0.97):
            event.type = self.random.randrange(1, 8)
        event.milliseconds_since_epoch = self.random.choice((0, 5, -7, 10**12))
        for _ in range(self.random.randrange(3)):
            step = event.path.steps.add()
            if self.chance(0.5):
                step.key = self.random.choice(("data", ""))
            elif self.chance(0.9):
                step.index = self.random.choice((0, -1, 7))
        return event

    def put_execution(self) -> tuple[str, Any]:
        request = service.PutExecutionRequest()
        if self.chance(0.98):
            request.execution.CopyFrom(self.node("execution", update=0.2))
        for _ in range(self.random.randrange(3)):
            pair = request.artifact_event_pairs.add()
            if self.chance(0.6):
                pair.artifact.CopyFrom(self.node("artifact", update=0.5))
                if self.chance(0.9):
                    pair.event.CopyFrom(self.event())
            elif self.node_ids["artifact"]:
                pair.event.CopyFrom(self.event())
                pair.event.artifact_id = self.random.choice(self.node_ids["artifact"])
            else:
                del request.artifact_event_pairs[-1]
        for _ in range(self.random.choice((0, 0, 1, 2))):
            context = request.contexts.add()
            context.CopyFrom(self.node("context", update=0.2))
            if self.chance(0.9):
                context.type_id = self.random.choice(self.type_ids["context"])
        options = request.options
        options.reuse_context_if_already_exist = self.chance(0.7)
        options.reuse_artifact_if_already_exist_by_external_id = self.chance(0.5)
        options.force_reuse_context = self.chance(0.2)
        options.force_update_time = self.chance(0.2)
        return "PutExecution", request

    def put_lineage(self) -> tuple[str, Any]:
        request = service.PutLineageSubgraphRequest()
        for kind in KINDS:
            for _ in range(self.random.randrange(3)):
                node = self.node(kind, update=0.2)
                if self.chance(0.95) and not node.HasField("id"):
                    node.type_id = self.random.choice(self.type_ids[kind])
                getattr(request, f"{kind}s").append(node)
        for _ in range(self.random.randrange(3)):
            if not (request.executions and request.artifacts):
                break
            edge = request.event_edges.add()
            edge.event.CopyFrom(self.event())
            edge.execution_index = self.random.randrange(len(request.executions))
            edge.artifact_index = self.random.randrange(len(request.artifacts))
            if self.chance(0.03):
                edge.artifact_index = self.random.choice((-1, 50))
        request.options.reuse_context_if_already_exist = self.chance(0.7)
        request.options.reuse_artifact_if_already_exist_by_external_id = self.chance(0.5)
        return "PutLineageSubgraph", request

    def put_links(self) -> tuple[str, Any]:
        if self.chance(0.5):
            parents = service.PutParentContextsRequest()
            link = parents.parent_contexts.add()
            if self.chance(0.97):
                link.child_id = self.any_id("context")
            link.parent_id = self.any_id("context")
            return "PutParentContexts", parents
        request = service.PutAttributionsAndAssociationsRequest()
        for _ in range(self.random.randrange(3)):
            request.attributions.add(
                artifact_id=self.any_id("artifact"), context_id=self.any_id("context")
            )
        for _ in range(self.random.randrange(2)):
            request.associations.add(
                execution_id=self.any_id("execution"), context_id=self.any_id("context")
            )
        return "PutAttributionsAndAssociations", request

    # Gets

    def get_nodes(self) -> tuple[str, Any]:
        kind = self.random.choice(KINDS)
        rpc = f"Get{kind.capitalize()}sByID"
        request = getattr(service, f"{rpc}Request")()
        getattr(request, f"{kind}_ids").extend(
            self.any_id(kind) for _ in range(self.random.randrange(4))
        )
        if kind == "artifact":
            request.populate_artifact_types = self.chance(0.3)
        return rpc, request

    def get_types(self) -> tuple[str, Any]:
        kind = self.random.choice(KINDS)
        stem = f"Get{kind.capitalize()}Type"
        which = self.random.randrange(4)
        if which == 0:
            return f"{stem}s", getattr(service, f"{stem}sRequest")()
        if which == 1:
            ids = [self.random.choice((*self.type_ids[kind], 1, 6, 99)) for _ in range(3)]
            return f"{stem}sByID", getattr(service, f"{stem}sByIDRequest")(type_ids=ids)
        if which == 2:
            wanted = [f"{kind}-{self.random.choice((*_EXTERNAL_IDS, 'no'))}" for _ in range(2)]
            request = getattr(service, f"{stem}sByExternalIdsRequest")(external_ids=wanted)
            return f"{stem}sByExternalIds", request
        request = getattr(service, f"{stem}Request")(
            type_name=self.random.choice(("T0", "T0", "T1", "T2", "mlmd.Model", "", "none"))
        )
        if self.chance(0.3):
            request.type_version = self.random.choice(("v1", ""))
        return stem, request

    def get_links(self) -> tuple[str, Any]:
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
            getattr(request, field_name).extend(self.any_id(kind) for _ in range(3))
        else:
            setattr(request, field_name, self.any_id(kind))
        return rpc, request

    def list_nodes(self) -> tuple[str, Any]:
        kind = self.random.choice(KINDS)
        rpc = f"Get{kind.capitalize()}s"
        if self.chance(0.3):
            rpc += "ByType"
        request = getattr(service, f"{rpc}Request")()
        if rpc.endswith("ByType"):
            request.type_name = self.random.choice(("T0", "T1", "none"))
        if self.chance(0.8):
            request.options.max_result_size = self.random.choice((1, 3, 20, 100))
            if self.chance(0.04):
                request.options.max_result_size = self.random.choice((0, -1))
            if self.chance(0.5):
                request.options.order_by_field.field = self.random.choice((1, 2, 3, 3))
                if request.options.order_by_field.field == _UPDATE_TIME:
                    # Upstream walks in circles when more rows tie than fit a page (contract Q24).
                    request.options.max_result_size = 100
            if self.chance(0.4):
                request.options.order_by_field.is_asc = False
            if self.chance(0.5):
                request.options.filter_query = random_filter(self.random, kind)
        return rpc, request

    def get_by_key(self) -> tuple[str, Any]:
        kind = self.random.choice(KINDS)
        which = self.random.randrange(3)
        if which == 0:
            rpc = f"Get{kind.capitalize()}sByExternalIds"
            numbers = [self.random.randrange(20) for _ in range(self.random.randrange(6))]
            wanted = [f"{self.random.choice(_EXTERNAL_IDS)}{number}" for number in numbers]
            if self.chance(0.03):
                wanted.append("")
            return rpc, getattr(service, f"{rpc}Request")(external_ids=wanted)
        if which == 1:
            uris = self.random.sample(_URIS, self.random.randrange(1, 2))
            return "GetArtifactsByURI", service.GetArtifactsByURIRequest(uris=uris)
        rpc = f"Get{kind.capitalize()}ByTypeAndName"
        request = getattr(service, f"{rpc}Request")(type_name=self.random.choice(("T0", "T1")))
        name = self.random.choice(_NAMES) + self.random.choice(("", "1", "7"))
        setattr(request, f"{kind}_name", name)
        return rpc, request

    def lineage(self) -> tuple[str, Any]:
        request = service.GetLineageSubgraphRequest()
        options = request.lineage_subgraph_query_options
        kind = self.random.choice(("artifact", "execution"))
        if self.chance(0.97):
            starting = getattr(options, f"starting_{kind}s")
            starting.filter_query = self.random.choice(("id > 0", "id <= 2", "id = 1"))
            if self.chance(0.3):
                starting.filter_query = random_filter(self.random, kind)
        if self.chance(0.7):
            options.max_num_hops = self.random.choice((0, 1, 2, 3, 20))
        if self.chance(0.7):
            options.direction = self.random.randrange(4)
        for ending in ("artifact", "execution"):
            if self.chance(0.25):
                nodes = getattr(options, f"ending_{ending}s")
                nodes.filter_query = self.random.choice(("id = 2", "id > 3", "FALSE"))
                nodes.include_ending_nodes = self.chance(0.5)
        fields = [f.name for f in mlmd.LineageGraph.DESCRIPTOR.fields]
        if self.chance(0.3):
            request.read_mask.paths.extend(self.random.sample(fields, 3))
        return "GetLineageSubgraph", request

    def any_id(self, kind: str) -> int:
        known = self.node_ids[kind]
        if not known or self.chance(0.03):
            return self.random.choice((0, 1, 500))
        return self.random.choice(known)

    def chance(self, probability: float) -> bool:
        return self.random.random() < probability
