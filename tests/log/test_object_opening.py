"""Stores in object storage are opened, or one line says why not; no secret is told anywhere."""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import obstore
import pytest

import eventstore
from eventstore import errors
from eventstore.log.objects import bucket, connecting
from eventstore.log.objects.opening import open_bucket
from eventstore.log.places import StoreUrl
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import append, draft, put_types
from tests.contract.object_logs import opened
from tests.object_servers import SECRET, ObjectServer


@pytest.fixture(params=["s3", "azure"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ObjectServer:
    found: ObjectServer = request.getfixturevalue(request.param)
    for name, value in found.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(bucket, "RETRIED_SECONDS", 0.3)
    return found


class Answers:
    """A server that gives the same answer to everything, and keeps the requests."""

    def __init__(self, status: int, code: str) -> None:
        requests: list[str] = []

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                requests.append(self.requestline)
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                body = f"<Error><Code>{code}</Code><Message>{SECRET}</Message></Error>".encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(b"" if self.command == "HEAD" else body)

            do_GET = do_PUT = do_HEAD = answer  # noqa: N815

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.requests = requests
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.endpoint = f"http://127.0.0.1:{self._server.server_port}"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextlib.contextmanager
def answering(status: int, code: str) -> Iterator[str]:
    with contextlib.closing(Answers(status, code)) as server:
        yield server.endpoint


def refusal(url: str, caplog: pytest.LogCaptureFixture) -> errors.StatusError:
    """The error of opening a URL, which tells no secret, nor does anything else."""
    with caplog.at_level(logging.DEBUG), pytest.raises(errors.StatusError) as met:
        opened(url)
    told = "".join(traceback.format_exception(met.value)) + caplog.text + repr(met.value)
    assert SECRET not in told
    assert "wr0ng" not in told
    assert "\n" not in met.value.message
    return met.value


def test_a_store_is_opened_by_eventstore_open(server: ObjectServer) -> None:
    url = server.url(server.new_prefix())
    with eventstore.open(url, actor="somebody") as store:
        type_ids = put_types(store)
        assert SECRET not in repr(store) + repr(store.log.__dict__)
    with eventstore.open(url, read_only=True) as store:
        assert store.get_artifact_type("DataSet").id == type_ids[0]
        assert {commit.actor for commit in store.changes()} >= {"somebody"}
        with pytest.raises(errors.FailedPreconditionError, match="opened to read only"):
            store.put_artifact_type(mlmd.ArtifactType(name="More"))


def test_several_make_a_store_at_once(server: ObjectServer) -> None:
    url, ids = server.url(server.new_prefix()), list[object]()

    def make() -> None:
        with contextlib.closing(opened(url)) as log:
            ids.append(log.store_id)

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ids) == 4
    assert len({*ids}) == 1


def test_stores_stand_beside_each_other(server: ObjectServer) -> None:
    prefix = server.new_prefix()
    with (
        contextlib.closing(opened(server.url(f"{prefix}/a"))) as one,
        contextlib.closing(opened(server.url(f"{prefix}/ab"))) as other,
    ):
        append(one, draft(1))
        assert other.position == 0
        assert one.store_id != other.store_id


def test_no_store_is_made_above_or_below_another(
    server: ObjectServer, caplog: pytest.LogCaptureFixture
) -> None:
    prefix = server.new_prefix()
    opened(server.url(f"{prefix}/one")).close()
    for below in ("one/sub", "one/sub/sub"):
        met = refusal(server.url(f"{prefix}/{below}"), caplog)
        assert isinstance(met, errors.FailedPreconditionError)
        assert f"{prefix}/one is a store" in met.message
    met = refusal(server.url(prefix), caplog)
    assert isinstance(met, errors.FailedPreconditionError)
    assert "holds the store one" in met.message
    assert "name another prefix" in met.message
    opened(server.url(f"{prefix}/one")).close()


def test_who_may_not_read_above_makes_a_store(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    get = bucket.Bucket.get

    def limited(self: bucket.Bucket, key: str, **named: bool) -> bytes | None:
        if not self.name.endswith("/mine"):
            raise errors.PermissionDeniedError("no right to")
        return get(self, key, **named)

    monkeypatch.setattr(bucket.Bucket, "get", limited)
    opened(server.url(f"{server.new_prefix()}/mine")).close()


def test_prefixes_are_shown_as_keys_have_them(server: ObjectServer) -> None:
    prefix = server.new_prefix()
    for written, shown in (("my%20store", "my store"), ("%C3%BCber", "über"), ("größe", "größe")):
        with contextlib.closing(opened(server.url(f"{prefix}/{written}"))) as log:
            append(log, draft(1))
            log.seal()
            assert log.name.endswith(f"{prefix}/{shown}")
            assert str(log.sealed_files()[0].path) == f"{log.name}/segments/0000000001.parquet"
        with contextlib.closing(opened(server.url(f"{prefix}/{shown}"))) as again:
            assert again.store_id == log.store_id


def test_the_environment_names_an_endpoint_and_allows_http(
    s3: ObjectServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    url = f"s3://history/{s3.new_prefix()}"
    monkeypatch.setenv("AWS_ENDPOINT_URL", s3.endpoint())
    met = refusal(url, caplog)
    assert isinstance(met, errors.FailedPreconditionError)
    assert s3.endpoint() in met.message
    assert "AWS_ALLOW_HTTP=true" in met.message
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    opened(url).close()
    assert isinstance(refusal(f"{url}?allow_http=false", caplog), errors.FailedPreconditionError)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "maybe")
    met = refusal(url, caplog)
    assert isinstance(met, errors.InvalidArgumentError)
    assert "AWS_ALLOW_HTTP has to be true or false" in met.message
    monkeypatch.setenv("AWS_ENDPOINT_URL", "minio:9000")
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    met = refusal(url, caplog)
    assert isinstance(met, errors.InvalidArgumentError)
    assert "'minio:9000'" in met.message
    monkeypatch.setenv("AWS_ENDPOINT_URL", "")
    assert "is empty: unset it" in refusal(url, caplog).message


def test_what_is_not_there_is_said(server: ObjectServer, caplog: pytest.LogCaptureFixture) -> None:
    prefix = server.new_prefix()
    met = refusal(server.url(prefix, bucket="elsewhere"), caplog)
    assert isinstance(met, errors.NotFoundError)
    assert "no such bucket" in met.message
    with pytest.raises(errors.NotFoundError, match="there is no store at"):
        open_bucket(connecting.of_url(server.url(prefix)), creates=False)
    place = connecting.of_url(server.url(prefix))
    place.overwrite("readme.txt", b"ours")
    met = refusal(server.url(prefix), caplog)
    assert isinstance(met, errors.FailedPreconditionError)
    assert "holds other objects" in met.message


def test_another_format_is_refused(server: ObjectServer, caplog: pytest.LogCaptureFixture) -> None:
    prefix = server.new_prefix()
    place = connecting.of_url(server.url(prefix))
    for content, said in (
        (b'{"format_version": 99}', "upgrade mlmd-eventstore"),
        (b'{"format_version": 1}', "use an older mlmd-eventstore"),
        (b"[]", "is not that of a store"),
        (b"\xff", "is not that of a store"),
    ):
        place.overwrite("store.json", content)
        met = refusal(server.url(prefix), caplog)
        assert isinstance(met, errors.FailedPreconditionError)
        assert said in met.message


def test_a_service_that_knows_no_conditions_is_refused(
    server: ObjectServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    put, url = obstore.put, server.url(server.new_prefix())

    def put_anyway(*given, mode="overwrite", **named):
        return put(*given, **named)

    with monkeypatch.context() as patched:
        patched.setattr(bucket.obstore, "put", put_anyway)
        assert "If-None-Match" in refusal(url, caplog).message
    # Not by another opening either.
    assert "is not that of a store" in refusal(url, caplog).message


def test_a_wrong_key_is_refused(
    azure: ObjectServer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "tests")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "d3IwbmcK")
    # Azurite says AuthorizationFailure, and Azure itself AuthenticationFailed.
    assert isinstance(refusal(azure.url("x"), caplog), errors.PermissionDeniedError)


@pytest.mark.parametrize(
    ("status", "code", "kind", "said"),
    [
        (403, "AccessDenied", errors.PermissionDeniedError, "403 AccessDenied"),
        (403, "InvalidAccessKeyId", errors.UnauthenticatedError, "its credentials are wrong"),
        (403, "SignatureDoesNotMatch", errors.UnauthenticatedError, "its credentials are wrong"),
        (301, "PermanentRedirect", errors.FailedPreconditionError, "say region="),
        (404, "NoSuchBucket", errors.NotFoundError, "no such bucket"),
        (503, "SlowDown", errors.UnavailableError, "503 SlowDown"),
        (418, "Teapot", errors.InternalError, "418 Teapot"),
    ],
)
@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_what_a_server_refuses_is_said_in_one_line(
    scheme: str,
    status: int,
    code: str,
    kind: type[errors.StatusError],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setenv("GOOGLE_BEARER_TOKEN", SECRET)
    monkeypatch.setattr(bucket, "RETRIED_SECONDS", 0.1)
    with answering(status, code) as endpoint:
        met = refusal(f"{scheme}://bucket/x?endpoint={endpoint}&allow_http=true", caplog)
    assert type(met) is kind
    assert said in met.message


def test_no_right_to_write_appends_nothing(
    s3: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in s3.environment.items():
        monkeypatch.setenv(name, value)
    with (
        answering(403, "AccessDenied") as endpoint,
        contextlib.closing(opened(s3.url(s3.new_prefix()))) as log,
    ):
        append(log, draft(1))
        refusing = connecting.of_url(f"s3://history/x?endpoint={endpoint}&allow_http=true")
        with monkeypatch.context() as patched:
            patched.setattr(log._bucket, "_small", refusing._small)
            with pytest.raises(errors.PermissionDeniedError, match="nothing was put"):
                append(log, draft(2))
        assert not log.refresh()
        append(log, draft(2))


def test_an_endpoint_that_is_not_there_is_said_soon(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "tests")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    monkeypatch.setattr(bucket, "RETRIED_SECONDS", 0.2)
    for endpoint in ("http://127.0.0.1:1", "http://nowhere.invalid"):
        met = refusal(f"s3://bucket/x?endpoint={endpoint}&allow_http=true", caplog)
        assert type(met) is errors.UnavailableError
        assert "cannot be reached" in met.message
    met = refusal("s3://bucket/x?endpoint=http://127.0.0.1:1", caplog)
    assert isinstance(met, errors.FailedPreconditionError)
    assert "allow_http=true" in met.message


def test_credentials_that_are_not_there_are_missed(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AZURE_STORAGE_ACCOUNT_NAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_METADATA_ENDPOINT", "http://127.0.0.1:1")
    monkeypatch.setattr(bucket, "RETRIED_SECONDS", 0.2)
    with answering(404, "NoSuchKey") as endpoint:
        met = refusal(f"s3://bucket/x?endpoint={endpoint}&allow_http=true", caplog)
    assert isinstance(met, errors.UnauthenticatedError)
    assert "set AWS_ACCESS_KEY_ID" in met.message
    met = refusal("az://bucket/x", caplog)
    assert "AZURE_STORAGE_ACCOUNT_NAME" in met.message


def test_keys_of_a_profile_are_found(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    path = tmp_path / "credentials"
    path.write_text(
        f"[default]\naws_access_key_id = a\naws_secret_access_key = {SECRET}\n"
        f"[team]\naws_access_key_id = b\naws_secret_access_key = {SECRET}\n"
        "aws_session_token = t%k\n[sso]\nsso_session = x\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    for name in ("AWS_ACCESS_KEY_ID", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setitem(sys.modules, "boto3", None)
    for url, key in (("s3://b/x", "a"), ("s3://b/x?profile=team", "b")):
        store = connecting.of_url(url)._small
        assert store.config["access_key_id"] == key
        assert store.config["secret_access_key"] == SECRET
    assert store.config["session_token"] == "t%k"
    met = refusal("s3://b/x?profile=sso", caplog)
    assert "install boto3" in met.message


def test_a_connection_string_of_azure_is_read(
    azure: ObjectServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    monkeypatch.setenv(
        "AZURE_STORAGE_CONNECTION_STRING",
        f"AccountName=tests;AccountKey={SECRET};BlobEndpoint={azure.endpoint()};",
    )
    with contextlib.closing(opened("az://history/by-string?allow_http=true")) as log:
        append(log, draft(1))


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("s3://", "names no bucket"),
        ("s3://user:wr0ng@bucket/x", "credentials do not belong"),
        ("s3://bucket/x?endpoint=http://user:wr0ng@minio", "do not belong into the endpoint"),
        ("s3://bucket/x?secret_access_key=wr0ng", "there is no option secret_access_key"),
        ("gs://bucket/x?region=wr0ng", "there is no option region"),
        ("s3://bucket/a//b", "an empty part"),
        ("gs://bucket/a/../b", "the part '..'"),
        ("s3://bucket/%2E/b", "the part '.'"),
        ("s3://bucket/a#b", "write %23"),
        ("s3://bucket/a%FF", "no UTF-8"),
        ("s3://bucket/a%0Ab", "cannot be seen"),
        ("s3://bucket/x?endpoint=minio:9000", "the endpoint of s3 is 'minio:9000'"),
        ("s3://bucket/x?endpoint=", "endpoint of this s3 URL is empty"),
        ("s3://bucket/x?allow_http=maybe", "allow_http has to be true or false"),
        ("gs://bucket/x?allow_http=", "allow_http has to be true or false"),
        ("s3://bucket/x?virtual_hosted_style_request=2", "has to be true or false"),
    ],
)
def test_what_cannot_be_a_url_is_refused(
    url: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    met = refusal(url, caplog)
    assert isinstance(met, errors.InvalidArgumentError)
    assert said in met.message


def test_a_missing_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("eventstore.log.objects")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(errors.FailedPreconditionError, match=r"mlmd-eventstore\[objects\]"):
        eventstore.open("s3://bucket/x")


def test_the_time_is_that_of_the_server(server: ObjectServer) -> None:
    place = connecting.of_url(server.url(server.new_prefix()))
    assert abs(place.now() / 1_000_000 - time.time()) < 60
    with contextlib.closing(Answers(403, "AccessDenied")) as answers:
        refusing = bucket.Bucket("s3://b", place._small, place._large, answers.endpoint)
        assert abs(refusing.now() / 1_000_000 - time.time()) < 60
    with pytest.raises(errors.UnavailableError, match="clock"):
        refusing.now()


def test_a_shown_url_has_no_option() -> None:
    url = StoreUrl("s3://bucket/x?endpoint=http://minio:9000&profile=wr0ng")
    assert str(url) == "s3://bucket/x?endpoint=***&profile=***"
