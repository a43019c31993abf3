"""The image and the manifests: what can be told without a builder and a cluster."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_loader
from pathlib import Path
from typing import Any

import yaml

import eventstore
from eventstore import MetadataStore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.proto import metadata_store_service_pb2 as service
from eventstore.server.tls import SslConfig
from tests.command_line.runner import ENVIRONMENT
from tests.differential.oracle import Oracle
from tests.server.certificates import Authority
from tests.server.serving import client_config, serving
from tests.server.test_serve_command import KUBEFLOW
from tests.server.web_calls import called, connection
from tests.sql_servers import PASSWORD, Server

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "deploy"
SERVER = DEPLOY / "metadata_store_server"
HEALTH = DEPLOY / "metadata_store_health"


def instructions() -> list[tuple[str, str]]:
    """Those of the Dockerfile, with their arguments."""
    text = re.sub(r"\\\n", " ", (DEPLOY / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(line.partition(" ")[0], line.partition(" ")[2].strip()) for line in lines]


def manifests() -> dict[tuple[str, str], Any]:
    """What is applied for Kubeflow, by kind and name."""
    folder = DEPLOY / "kubernetes" / "kubeflow"
    kustomization = yaml.safe_load((folder / "kustomization.yaml").read_text())
    found = {}
    for name in kustomization["resources"]:
        for each in yaml.safe_load_all((folder / name).read_text()):
            found[each["kind"], each["metadata"]["name"]] = each
    return found


def deployed() -> Any:
    """The pod of Kubeflow's deployment."""
    return manifests()["Deployment", "metadata-grpc-deployment"]["spec"]["template"]


@contextmanager
def run_as_deployed(
    arguments: list[str], environment: Mapping[str, str] = {}
) -> Iterator[tuple[subprocess.Popen[str], int, int | None]]:
    """What the image runs, on free ports: the process, its port, and that for gRPC-Web."""
    ports = ["--grpc_port=0"]
    for name in ("--grpc-web-port", "--metrics-port"):
        ports += [f"{name}=0"] if any(each.startswith(name) for each in arguments) else []
    found = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    with subprocess.Popen(
        [SERVER, *arguments, *ports],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**ENVIRONMENT, "PATH": found, **environment},
    ) as process:
        assert process.stdout is not None
        try:
            lines = [process.stdout.readline() for _ in ports]
            assert all(lines), (process.stderr or process.stdout).read()
            port, *web = (int(line.rpartition(":")[2]) for line in lines)
            yield process, port, next(iter(web), None)
        finally:
            process.kill()


def test_the_image_is_made_of_what_is_there() -> None:
    stages = [arguments for name, arguments in instructions() if name == "FROM"]
    assert all(re.fullmatch(r"python:\d\.\d+-slim( AS build)?", stage) for stage in stages)
    ignored = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for name, arguments in instructions():
        assert name in {
            *("FROM", "WORKDIR", "COPY", "RUN", "ENV"),
            *("USER", "EXPOSE", "HEALTHCHECK", "ENTRYPOINT"),
        }
        *sources, _ = [each for each in shlex.split(arguments) if not each.startswith("--")] or [""]
        if name == "COPY" and "--from" not in arguments:
            for source in sources:
                assert (ROOT / source).exists(), source
                allowed = (each.removeprefix("!") for each in ignored if each.startswith("!"))
                assert any(Path(source.removeprefix("./")).match(each) for each in allowed), source
    [extras] = re.findall(r"\[([\w,]+)\]", " ".join(text for _, text in instructions()))
    known = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert {*extras.split(",")} <= known["optional-dependencies"].keys()
    assert {"server", "mysql", "postgresql"} <= {*extras.split(",")}


def test_the_image_runs_as_nobody_in_particular() -> None:
    found = dict(instructions())
    assert re.fullmatch(r"[1-9]\d{3,}:[1-9]\d{3,}", found["USER"])
    assert found["ENTRYPOINT"] == f'["/bin/{SERVER.name}"]'
    assert found["HEALTHCHECK"].endswith(f'CMD ["/bin/{HEALTH.name}"]')
    for script in (SERVER, HEALTH):
        assert script.stat().st_mode & 0o111
    secrets = re.compile(r"password|token|secret", re.IGNORECASE)
    assert not [text for _, text in instructions() if secrets.search(text)]


def test_kubeflow_finds_it_by_the_names_of_its_own() -> None:
    found = manifests()
    labels = deployed()["metadata"]["labels"]
    [container] = deployed()["spec"]["containers"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert ports == {"grpc-api": 8080, "grpc-web": 9090, "metrics": 9464}
    for name, port in (("metadata-grpc-service", 8080), ("metadata-envoy-service", 9090)):
        spec = found["Service", name]["spec"]
        assert spec["selector"].items() <= labels.items()
        [served] = spec["ports"]
        assert served["port"] == port
        assert ports[served["targetPort"]] == port
    assert found["Deployment", "metadata-grpc-deployment"]["spec"]["selector"]["matchLabels"] == {
        "component": "metadata-grpc-server"
    }
    # Kubeflow's own server may not write while this one imports.
    assert found["Deployment", "metadata-grpc-deployment"]["spec"]["strategy"]["type"] == "Recreate"
    # All that Kubeflow's own says is said here, too.
    own = [each.partition("=")[0] for each in KUBEFLOW]
    assert own == [each.partition("=")[0] for each in container["args"]][: len(own)]
    assert container["command"] == [f"/bin/{SERVER.name}"]


def test_what_belongs_to_the_deployment_fits_it() -> None:
    found = manifests()
    spec = found["Deployment", "metadata-grpc-deployment"]["spec"]
    pod = spec["template"]
    [container] = pod["spec"]["containers"]
    policy = found["NetworkPolicy", "metadata-grpc-server"]["spec"]
    budget = found["PodDisruptionBudget", "metadata-grpc-server"]["spec"]
    for selector in (policy["podSelector"], budget["selector"]):
        assert selector["matchLabels"].items() <= pod["metadata"]["labels"].items()
    let_in = {port["port"] for rule in policy["ingress"] for port in rule["ports"]}
    assert let_in == {port["name"] for port in container["ports"]}
    # A first start that still imports has not failed.
    startup = container["startupProbe"]
    given = startup["periodSeconds"] * startup["failureThreshold"]
    assert spec["progressDeadlineSeconds"] > given


def test_the_documents_build_the_image_that_is_deployed() -> None:
    folder = DEPLOY / "kubernetes" / "kubeflow"
    [image] = yaml.safe_load((folder / "kustomization.yaml").read_text())["images"]
    [container] = deployed()["spec"]["containers"]
    assert container["image"] == image["name"]
    for document in ("docs/kubernetes.md", "PORTING.md"):
        text = (ROOT / document).read_text()
        assert f"--tag {image['newName']}:{image['newTag']} " in text


def health() -> Any:
    loader = SourceFileLoader("metadata_store_health", str(HEALTH))
    module = module_from_spec(spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


def test_health_is_asked_where_the_server_listens() -> None:
    port_in = health().port_in
    server = ["/opt/bin/python", "/opt/bin/eventstore", "serve", "--grpc_host=0.0.0.0"]
    for given, port in (
        ([], 8080),
        (["--grpc_port=5", "--metrics-port=9"], 5),
        (["--grpc-web-port=7", "-grpc_port", "6", "s"], 6),
        (["--grpc_port=5", "--grpc_port=8"], 8),
    ):
        assert port_in("\0".join([*server, *given, ""])) == port


def test_a_server_with_tls_is_well_if_it_shakes_hands(tmp_path: Path) -> None:
    authority = Authority()
    key, certificate = authority.pair("server")
    tls = SslConfig(server_key=key, server_cert=certificate)
    tls.custom_ca, tls.client_verify = authority.certificate, True
    with eventstore.open("memory://") as store, serving(store._engine, tls=tls) as server:
        asked = [sys.executable, str(HEALTH), str(server.port)]
        assert subprocess.run(asked, check=False, env=ENVIRONMENT).returncode == 0
    assert subprocess.run(asked, check=False, capture_output=True, env=ENVIRONMENT).returncode == 1


def test_a_pod_may_do_nothing_that_it_need_not() -> None:
    spec = deployed()["spec"]
    [container] = spec["containers"]
    user = dict(instructions())["USER"].split(":")
    assert spec["securityContext"]["runAsNonRoot"]
    assert [str(spec["securityContext"][f"runAs{who}"]) for who in ("User", "Group")] == user
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    [mount] = container["volumeMounts"]
    assert mount["mountPath"] == "/tmp"
    assert "sizeLimit" in spec["volumes"][0]["emptyDir"]
    assert {"requests", "limits"} <= container["resources"].keys()
    for kind in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[kind]["grpc"] == {"port": 8080}
    # Calls in flight are answered before the pod is killed.
    assert spec["terminationGracePeriodSeconds"] > 25
    password = next(each for each in container["env"] if each["name"] == "DBCONFIG_PASSWORD")
    assert password.keys() == {"name", "valueFrom"}
    assert "secretKeyRef" in password["valueFrom"]


def test_it_serves_as_deployed_what_mlmd_has_recorded(
    mariadb: Server, oracle: Oracle, tmp_path: Path
) -> None:
    """With the arguments of the manifest, and nothing to write to but one folder."""
    name = mariadb.new_database()
    config = mlmd.ConnectionConfig()
    mysql = config.mysql
    mysql.host, mysql.port, mysql.database = "127.0.0.1", mariadb.port, name
    mysql.user, mysql.password = "admin", PASSWORD
    oracle.connect(config)
    type_id = oracle.method("put_artifact_type", mlmd.ArtifactType(name="system.Dataset"))
    oracle.start_over()
    values = {
        "DBCONFIG_USER": mysql.user,
        "DBCONFIG_PASSWORD": mysql.password,
        "MYSQL_DATABASE": name,
        "MYSQL_HOST": mysql.host,
        "MYSQL_PORT": str(mysql.port),
    }
    [container] = deployed()["spec"]["containers"]
    assert {each["name"] for each in container["env"]} == values.keys()
    arguments = [
        re.sub(r"\$\((\w+)\)", lambda named: values[named[1]], each) for each in container["args"]
    ]
    environment = {
        "HOME": str(tmp_path),
        "TMPDIR": str(tmp_path),
        "EVENTSTORE_CACHE": str(tmp_path),
    }
    with run_as_deployed(arguments, environment) as (process, port, web_port):
        assert web_port is not None
        with closing(connection(web_port)) as to:
            request = service.GetArtifactTypeRequest(type_name="system.Dataset")
            assert called(to, "GetArtifactType", request).artifact_type.id == type_id
        with MetadataStore(client_config(port)) as client:
            made = client.put_artifacts([mlmd.Artifact(type_id=type_id)])
        asked = [sys.executable, HEALTH, str(port)]
        subprocess.run(asked, check=True, env=ENVIRONMENT)
        process.terminate()
        assert process.stderr is not None
        assert PASSWORD not in process.stderr.read()
        assert process.wait(60) == 0
    assert subprocess.run(asked, check=False, capture_output=True, env=ENVIRONMENT).returncode == 1
    with eventstore.open(mariadb.url(name)) as store:
        assert store.get_artifacts_by_id(made)[0].type == "system.Dataset"


def test_flags_come_after_what_the_image_says() -> None:
    with run_as_deployed(["--grpc_host=127.0.0.1"]) as (process, _, _):
        process.terminate()
        assert process.stderr is not None
        assert "Only this machine reaches it" in process.stderr.read()
