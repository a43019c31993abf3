"""`eventstore ui` and `serve --http` as processes, and what they refuse to do."""

from __future__ import annotations

import http.client
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import eventstore
from eventstore.proto import metadata_store_pb2 as mlmd
from eventstore.server.token_file import line_of, new_token
from tests.command_line.runner import ENVIRONMENT, run


@pytest.fixture
def path(tmp_path: Path) -> Path:
    with eventstore.open(tmp_path / "store") as store:
        store.put_artifact_type(mlmd.ArtifactType(name="Model"))
    return tmp_path / "store"


@contextmanager
def running(
    *arguments: object, until: str
) -> Iterator[tuple[subprocess.Popen[str], re.Match[str]]]:
    """A process, once it has written a line that matches."""
    with subprocess.Popen(
        [sys.executable, "-m", "eventstore", *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=ENVIRONMENT,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stderr is not None
            for line in process.stdout:
                if found := re.search(until, line):
                    break
            else:
                raise AssertionError(process.stderr.read())
            yield process, found
        finally:
            process.kill()


def get(port: int, path: str, **headers: str) -> tuple[http.client.HTTPResponse, str]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request("GET", path, headers={"sec-fetch-site": "none", **sent})
    answer = connection.getresponse()
    text = answer.read().decode()
    connection.close()
    return answer, text


def test_ui_opens_a_store_for_one_browser(path: Path) -> None:
    before = {file: file.read_bytes() for file in sorted((path / "log").rglob("*"))}
    until = r"http://127\.0\.0\.1:(\d+)(/open\S+)"
    with running("ui", path, "--no-browser", until=until) as (process, found):
        port = int(found[1])
        assert get(port, "/")[0].status == 401
        opened, _ = get(port, found[2])
        assert opened.status == 303
        cookie = str(opened.getheader("set-cookie")).partition(";")[0]
        page, text = get(port, "/", cookie=cookie)
        assert page.status == 200
        assert "Overview" in text
        _, answer = get(port, "/api/v1/types?kind=artifact", cookie=cookie)
        assert json.loads(answer)["types"][-1]["name"] == "Model"
        assert get(port, found[2])[0].status == 401
        process.send_signal(signal.SIGINT)
        assert process.wait(60) == 0
    assert before == {file: file.read_bytes() for file in sorted((path / "log").rglob("*"))}


def test_serve_has_the_page_behind_its_tokens(path: Path, tmp_path: Path) -> None:
    token = new_token()
    (tmp_path / "tokens").write_text(line_of(token, "ana", ["read"], None) + "\n")
    until = r"Page on http://127\.0\.0\.1:(\d+)/"
    arguments = ("--grpc_port=0", "--http=0", "--token-file", tmp_path / "tokens")
    with running("serve", path, *arguments, until=until) as (process, found):
        port = int(found[1])
        while (answer := get(port, "/api/v1/store"))[0].status == 503:
            assert answer[0].getheader("retry-after") == "1"
        assert answer[0].status == 401
        told, text = get(port, "/api/v1/store", authorization=f"Bearer {token}")
        assert told.status == 200
        with eventstore.open(path, read_only=True) as store:
            assert json.loads(text)["info"]["position"] == store.log_position()
        process.send_signal(signal.SIGTERM)
        assert process.wait(60) == 0
        assert process.stderr is not None
        assert "Traceback" not in process.stderr.read()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--http=0.0.0.0:8400"], "need TLS"),
        (["--http=models.example.com:8400"], "need TLS"),
        (["--http=here"], "no address"),
        (["--http=8400", "--workers=2"], "one process"),
        (["--http-name=models.example.com"], "for --http"),
        (["--http=0.0.0.0:8400", "--http-tls-proxy=proxy"], "no IP address"),
    ],
)
def test_serve_refuses(path: Path, arguments: list[str], words: str) -> None:
    result = run("serve", path, "--grpc_port=0", *arguments)
    assert result.code == 2
    assert words in " ".join(result.err.split())


def test_a_page_of_a_server_is_the_servers() -> None:
    result = run("ui", "grpc://127.0.0.1:8080/", "--no-browser")
    assert result.code == 1
    assert "serve --http" in " ".join(result.err.split())
