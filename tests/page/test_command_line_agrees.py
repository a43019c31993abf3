"""The commands on each page run, and say the same numbers as the page and the HTTP API."""

from __future__ import annotations

import html
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.serving import Serving
from eventstore.page.pages import PAGES
from tests.command_line.runner import run
from tests.page.store_of_runs import MadeStore

_MOMENTS = ["", "at=3406&until=3976"]
_SAME = re.compile(r'<details class="same">.*?<code>(.*?)</code>', re.DOTALL)


@pytest.fixture(scope="module")
def store(runs: MadeStore) -> Iterator[eventstore.MetadataStore]:
    with eventstore.open(runs.path, read_only=True) as opened:
        yield opened


@pytest.fixture(scope="module")
def client(store: eventstore.MetadataStore) -> Iterator[TestClient]:
    application = make_application(Serving({"churn": store._engine}), NoAuthentication(), PAGES)
    with TestClient(
        application, base_url="http://localhost", headers={"sec-fetch-site": "none"}
    ) as made:
        yield made


@pytest.fixture(autouse=True)
def beside_the_store(runs: MadeStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(Path(runs.path).parent)


def said(*arguments: object) -> list[Any]:
    """What a command prints as JSON, line by line."""
    done = run(*arguments, "--json")
    assert done.code == 0, (arguments, done.err)
    return [json.loads(line) for line in done.out.splitlines()]


def answer(client: TestClient, address: str) -> Any:
    got = client.get(f"/api/v1{address}")
    assert got.status_code == 200, got.text
    return got.json()


@pytest.mark.parametrize("moments", _MOMENTS)
def test_the_commands_of_each_page_run(
    client: TestClient, store: eventstore.MetadataStore, runs: MadeStore, moments: str
) -> None:
    tried: set[str] = set()
    for page in (
        *("/", "/artifacts", "/executions?type=Push", "/contexts?type=PipelineRun", "/commits/9"),
        "/artifacts?type=Model&sort=-created_at&filter=uri LIKE 's3%25' AND name != \"it's\"",
        *("/artifacts/{pushed_model}", "/executions/{push}", "/contexts/3"),
        *("/artifacts/{pushed_model}/lineage", "/executions/{push}/lineage?hops=all"),
        *("/log", "/log?actor=data-quality&reason=1&kind=artifact&since=2026-10-01"),
        *("/rules/holds", "/rules/retention", "/rules/erasures", "/verification", "/sql"),
        *("/compare?artifacts={pushed_model},{bad_dataset}", "/go?q=churn"),
    ):
        address = page.format(**vars(runs))
        if moments:
            address += f"{'&' if '?' in address else '?'}{moments}"
        got = client.get(address)
        assert got.status_code == 200, address
        for text in _SAME.findall(got.text):
            for command in _commands(html.unescape(re.sub(r"<[^>]+>", "", text))):
                if command in tried:
                    continue
                tried.add(command)
                if command.startswith("eventstore "):
                    done = run(*shlex.split(command)[1:])
                    assert done.code == 0, (address, command, done.err)
                else:
                    exec(command, {"store": store, "eventstore": eventstore})
    assert len(tried) > 15


def _commands(text: str) -> Iterator[str]:
    """The commands of a page: one may have a query of several lines."""
    command = ""
    for line in text.splitlines():
        command = f"{command}\n{line}" if command else line
        try:
            shlex.split(command)
        except ValueError:
            continue
        if command.strip():
            yield command
        command = ""
    assert not command


def test_counts(client: TestClient, runs: MadeStore) -> None:
    (info,) = said("info", "churn")
    assert answer(client, "/store")["info"]["counts"] == info["counts"]
    page = client.get("/").text
    for kind in ("artifact", "execution", "context"):
        assert f"{info['counts'][kind]:,}" in page
    for at in (runs.push_position, info["position"]):
        counts = answer(client, f"/store?at={at}")["counts"]
        by_type = "SELECT count(*) AS n FROM {}s"
        for kind in ("artifact", "execution", "context"):
            (row,) = said("sql", "churn", by_type.format(kind), "--as-of", at)
            assert counts.get(kind, 0) == row["n"]
        actors = "SELECT actor, count(*) AS commits FROM commits GROUP BY actor"
        by_actor = {
            (one["actor"], one["commits"]) for one in said("sql", "churn", actors, "--as-of", at)
        }
        listed = answer(client, f"/actors?at={at}")["actors"]
        assert {(one["actor"], one["commits"]) for one in listed} == by_actor
        activity = answer(client, f"/activity?at={at}")
        commits = sum(count for _, count in by_actor)
        assert sum(one["commits"] for one in activity["buckets"]) >= commits


def test_lists(client: TestClient, runs: MadeStore) -> None:
    for at, words, query in (
        (runs.push_position, ["--type", "Model"], "type=Model"),
        (3976, ["--filter", "state = MARKED_FOR_DELETION"], "filter=state = MARKED_FOR_DELETION"),
        (3976, ["--order-by", "create_time", "--descending"], "sort=-created_at"),
    ):
        rows = said("list", "churn", "artifact", "--as-of", at, "--limit", 30, *words)
        listed = answer(client, f"/artifacts?at={at}&limit=30&{query}")["rows"]
        assert [one["id"] for one in listed] == [row["id"] for row in rows]


def test_the_command_of_a_list_or_of_the_log_gives_the_same_rows(
    client: TestClient, runs: MadeStore
) -> None:
    for address, row, name in (
        ("/artifacts?", r'href="/artifacts/(\d+)', "id"),
        ("/artifacts?type=Model&sort=-created_at&", r'href="/artifacts/(\d+)', "id"),
        ("/executions?sort=updated_at&at=3500", r'href="/executions/(\d+)', "id"),
        ("/log?", r'href="/commits/(\d+)', "number"),
        ("/log?reason=1&at=3500", r'href="/commits/(\d+)', "number"),
        ("/log?actor=nightly&kind=artifact&type=Model&", r'href="/commits/(\d+)', "number"),
        ("/log?since=2026-10-01&to=2026-10-03&before=300", r'href="/commits/(\d+)', "number"),
    ):
        page = client.get(address).text
        shown = [int(id) for id in dict.fromkeys(re.findall(row, page[page.index("<tbody") :]))]
        (text, *_) = _SAME.findall(page)
        command, *_ = _commands(html.unescape(re.sub(r"<[^>]+>", "", text)))
        rows = said(*shlex.split(command)[1:])
        assert shown
        assert shown == [one[name] for one in rows][: len(shown)], (address, command)


def test_a_node_its_history_and_its_lineage(client: TestClient, runs: MadeStore) -> None:
    for kind, id in (("artifact", runs.pushed_model), ("execution", runs.push)):
        (node,) = said("get", "churn", kind, id)
        fields = {one["field"]: one["value"] for one in answer(client, f"/{kind}s/{id}")["fields"]}
        stored = {
            f"{group}.{name}": next(iter(value.values()))
            for group in ("properties", "custom_properties")
            for name, value in node.get(group, {}).items()
        }
        assert {name: value for name, value in fields.items() if "properties." in name} == stored
        versions = said("history", "churn", kind, id, "--reverse")
        listed = answer(client, f"/{kind}s/{id}/versions?limit=100")["versions"]
        alike = ("position", "commit", "recorded_at", "actor", "reason", "request_id", "changes")
        assert [[one[name] for name in alike] for one in listed] == [
            [one[name] for name in alike] for one in versions
        ]
        for direction in ("upstream", "downstream", "both"):
            way = ["--direction", direction, "--hops", 3, "--limit", 0]
            (graph,) = said("lineage", "churn", kind, id, *way)
            drawn = answer(client, f"/{kind}s/{id}/lineage?direction={direction}&hops=3")
            assert {one["key"] for one in drawn["nodes"]} == {
                f"{one['kind']}/{one['id']}" for one in graph["nodes"]
            }
            between = said("diff", "churn", runs.push_position, 3976, "--lineage", kind, id, *way)
            drawn = answer(
                client,
                f"/{kind}s/{id}/lineage?direction={direction}&hops=3"
                f"&at={runs.push_position}&until=3976",
            )
            for mark, is_new in (("added", True), ("changed", False)):
                assert {one["key"] for one in drawn["nodes"] if one["mark"] == mark} == {
                    f"{one['kind']}/{one['id']}"
                    for one in between
                    if one["is_new"] is is_new and one["kind"] != "event"
                }, (mark, direction)


def test_commits_and_what_they_changed(client: TestClient) -> None:
    listed = answer(client, "/commits?limit=40")["commits"]
    records = said("log", "churn", "--limit", 0, "--upto", 3976)
    for one in listed:
        own = [record for record in records if record["commit"] == one["commit"]]
        assert [own[-1]["position"], own[0]["position"]] == [
            one["first_position"],
            one["last_position"],
        ]
        assert sum(count["new"] + count["changed"] for count in one["counts"]) == len(own)
    for one in (listed[0], listed[7], listed[-1]):
        words = ["--since", one["first_position"] - 1, "--until", one["last_position"]]
        (commit,) = said("changes", "churn", *words)
        detail = answer(client, f"/commits/{one['commit']}")
        assert [(change["position"], change["changes"]) for change in detail["changes"]] == [
            (change["position"], change["fields"]) for change in commit["changes"]
        ]


def test_holds_and_rules(client: TestClient) -> None:
    assert [row["hold"] for row in answer(client, "/holds")["holds"]] == said(
        "hold", "list", "churn"
    )
    for group, number, kind in (("hold", 1, "holds"), ("retention", 1, "retention")):
        (row, *_) = answer(client, f"/{kind}?at=3975")[{"holds": "holds"}.get(kind, "rules")]
        nodes = said(group, "covers", "churn", number, "--as-of", 3975, "--limit", 0)
        for name, upstream in (("in_scope", False), ("upstream", True)):
            counts = Counter(one["node"]["kind"] for one in nodes if one["is_upstream"] is upstream)
            covers = row["covers"][name]
            assert {kind: count for kind, count in covers.items() if count} == counts
    assert [row["rule"] for row in answer(client, "/retention")["rules"]] == said(
        "retention", "list", "churn"
    )
    (erasure,) = answer(client, "/erasures")["erasures"]
    (row,) = said("sql", "churn", "FROM erasures")
    alike = ("number", "stage", "position", "actor", "basis", "ticket", "contents", "whos")
    assert [erasure[name] for name in alike] == [row[name] for name in alike]
