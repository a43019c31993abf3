"""Every page answers, at any moment, and says what the store says."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from datetime import datetime, timezone
from urllib.parse import parse_qs, urlsplit

import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.answers import FieldAnswer
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.entities import VersionRow
from eventstore.http_api.serving import Serving
from eventstore.page.nodes import runs_of
from eventstore.page.pages import PAGES
from eventstore.proto import metadata_store_pb2 as mlmd
from tests.builders import put_types
from tests.page.store_of_runs import REASON, MadeStore

ADDRESSES = (
    "/types/artifact?name=Dataset",
    *("/", "/artifacts", "/executions?type=Push", "/contexts?type=PipelineRun", "/log"),
    *("/artifacts?type=Model&sort=-name&columns=name,custom_properties.accuracy", "/commits/9"),
    *("/artifacts?type=Metrics&sort=properties.accuracy&filter=properties.auc.double_value > 0.9",),
    *("/artifacts/{pushed_model}/lineage", "/executions/{push}/lineage?direction=both&hops=4"),
    *("/executions/{push}", "/artifacts/{bad_dataset}", "/artifacts/{pushed_model}"),
    *(
        "/artifacts/{erased_dataset}",
        "/contexts/3",
        "/log?actor=data-quality&reason=1&kind=artifact",
    ),
)


@pytest.fixture(scope="module")
def client(runs: MadeStore) -> Iterator[TestClient]:
    with eventstore.open(runs.path, read_only=True) as store:
        application = make_application(Serving({"churn": store._engine}), NoAuthentication(), PAGES)
        with TestClient(
            application, base_url="http://localhost", headers={"sec-fetch-site": "none"}
        ) as made:
            yield made


def _text(client: TestClient, address: str) -> str:
    answer = client.get(address)
    assert answer.status_code == 200, (address, answer.text)
    return answer.text


@pytest.mark.parametrize("moments", ["", "at=3500", "at=3406&until=3976"])
def test_each_page_answers_at_each_moment(
    client: TestClient, runs: MadeStore, moments: str
) -> None:
    for address in ADDRESSES:
        address = address.format(**vars(runs))
        if moments:
            address += f"{'&' if '?' in address else '?'}{moments}"
        page = _text(client, address)
        assert ("The past" in page) is bool(moments)


def test_a_node_says_who_set_what_and_why(client: TestClient, runs: MadeStore) -> None:
    page = _text(client, f"/artifacts/{runs.bad_dataset}")
    assert REASON in page
    assert "DQ-1381" in page
    assert re.search(r"data-quality v3</a>", page)
    before = _text(client, f"/artifacts/{runs.bad_dataset}?at={runs.push_position}")
    assert REASON not in before
    assert "1 later version" in before


def test_what_came_between_two_moments_is_shown_as_of_the_later_one(
    client: TestClient, runs: MadeStore
) -> None:
    (newest,) = re.findall(r'href="(/executions/\d+)', _text(client, "/executions"))[:1]
    answer = client.get(f"{newest}?at=1000&until=3976")
    assert answer.status_code == 200
    assert str(answer.url).endswith(f"{newest}?at=3976")
    assert client.get(f"{newest}?at=1000").status_code == 404


def test_many_versions_of_one_field_are_one_line(client: TestClient, runs: MadeStore) -> None:
    page = _text(client, f"/artifacts/{runs.pushed_model}")
    assert "38 versions" in page
    assert page.count("<polyline") == 1


def test_what_was_erased_says_so_in_its_place(client: TestClient, runs: MadeStore) -> None:
    page = _text(client, f"/artifacts/{runs.erased_dataset}")
    assert "erasure 1" in page
    assert "GDPR-17(1)(b)" in page
    assert "customers" not in page


def test_what_is_not_there_says_why(client: TestClient, runs: MadeStore) -> None:
    never = client.get("/artifacts/99999")
    assert "<h1>There is no such page</h1>" in never.text
    assert (never.status_code, "no artifact has id 99999" in never.text) == (404, True)
    not_yet = client.get(f"/artifacts/{runs.bad_dataset}?at=100")
    assert not_yet.status_code == 404
    assert "is not there yet at position 100" in not_yet.text


def test_what_is_wrong_in_an_address_is_told_in_words(client: TestClient) -> None:
    assert "<h1>This address is wrong</h1>" in client.get("/artifacts?at=99999999").text


def test_a_filter_that_is_wrong_is_told_on_the_page(client: TestClient) -> None:
    page = _text(client, "/artifacts?filter=state = ")
    assert "Nothing is listed." in page
    assert "List all without the filter" in page
    assert 'aria-invalid="true"' in page


def test_as_sql_has_the_rows_of_the_list_or_is_not_offered(client: TestClient) -> None:
    for query in ("filter=name LIKE '%25a%25'", "sort=-name"):
        assert "As SQL" not in _text(client, f"/artifacts?type=Model&{query}")
    page = _text(client, "/artifacts?type=Model")
    link = re.search(r'href="([^"]*)">As SQL', page)
    assert link is not None
    [asked] = parse_qs(urlsplit(link[1]).query)["q"]
    assert asked == "SELECT * FROM artifacts WHERE type = 'Model' ORDER BY id DESC"


def test_who_put_counts_every_commit(client: TestClient) -> None:
    page = _text(client, "/")
    box = page[page.index("Who put") :].partition("</section>")[0]
    counts = [int(one.replace(",", "")) for one in re.findall(r">([\d,]+) commits?</span>", box)]
    assert sum(counts) == client.get("/api/v1/store").json()["info"]["commits"]


def test_rules_say_what_they_cover_and_each_node_what_covers_it(
    client: TestClient, runs: MadeStore
) -> None:
    held = _text(client, "/rules/holds")
    assert "CASE-2026-11, LEG-20" in held
    assert "LEG-17-END" in held
    assert ">1 artifact, 1 execution upstream</a>" in held
    assert ">200 artifacts</a>" in _text(client, "/rules/retention")
    assert ">churn-09-21-t1</a>" in _text(client, "/rules/retention?number=1")
    assert "Held for CASE-2026-11" in _text(client, f"/artifacts/{runs.bad_dataset}")
    before = _text(client, f"/rules/holds?at={runs.push_position}")
    assert "Nothing was ever held." in before
    erased = _text(client, "/rules/erasures?number=1")
    assert f'href="/artifacts/{runs.erased_dataset}"' in erased
    assert client.get("/rules/erasures?number=9").status_code == 404


def test_rules_have_pages(client: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _text(client, "/rules/holds")
    monkeypatch.setattr("eventstore.page.rules._LIMIT", 1)
    numbers, address = [], "/rules/holds"
    while address:
        page = _text(client, address)
        numbers += re.findall(r"<tr><td>(\d+)</td>", page)
        further = re.search(r'href="([^"]+)" rel="next"', page)
        address = html.unescape(further[1]) if further else ""
    assert numbers == re.findall(r"<tr><td>(\d+)</td>", whole)
    assert len(numbers) > 1


@pytest.mark.parametrize(
    ("typed", "leads"),
    [
        ("sales-11-05", "/artifacts/{bad_dataset}"),
        ("push-11-05", "/executions/{push}"),
        ("commit 9", "/commits/9"),
        ("position 3976", "/commits/1228"),
    ],
)
def test_go_to_leads_to_what_is_meant(
    client: TestClient, runs: MadeStore, typed: str, leads: str
) -> None:
    answer = client.get("/go", params={"q": typed}, follow_redirects=False)
    assert answer.headers["location"] == leads.format(**vars(runs))


def test_a_report_is_saved_as_of_the_moment(client: TestClient, runs: MadeStore) -> None:
    answer = client.get(f"/artifacts/{runs.bad_dataset}/report?at={runs.push_position}")
    assert answer.headers["content-disposition"].startswith("attachment")
    assert "sales-11-05" in answer.text
    assert f"-{runs.push_position}.html" in answer.headers["content-disposition"]


def test_two_moments_say_what_has_come_between_them(client: TestClient, runs: MadeStore) -> None:
    moments = f"at={runs.push_position}&until=3976"
    overview = _text(client, f"/?{moments}")
    then, now = (_text(client, f"/?at={at}") for at in (runs.push_position, 3976))
    counts = [
        int(re.search(r'Artifacts</a> <span class="quiet">(\d+)', page)[1])  # type: ignore[index]
        for page in (then, now)
    ]
    assert f'{counts[1]} <span class="gained">(+{counts[1] - counts[0]})' in overview
    datasets = _text(client, f"/artifacts?type=Dataset&{moments}")
    assert "57 found, 48 at A" in datasets
    assert datasets.count("+ added") == 9
    (changed,) = re.findall(r"~ changed</span> <span class=\"quiet\">([^<]*)<", datasets)
    assert changed == "state, custom_properties.ticket, properties.quality"
    # No more than was there is gone: the customers were erased before.
    assert "erased</span>" not in datasets
    # The next page is of the same moments, and cursors lead there.
    models = _text(client, f"/artifacts?type=Model&at={runs.push_position}&until=now")
    following = re.search(r'href="([^"]*)" rel="next"', models)
    assert following is not None
    assert "until=3976" in following[1]
    assert "+ added" not in _text(client, following[1].replace("&amp;", "&"))


def test_an_empty_list_says_which_condition_leaves_none(client: TestClient) -> None:
    text = "properties.rows.int_value > 1 AND state = DELETED AND id BETWEEN 3 AND 400"
    page = _text(client, f"/artifacts?type=Dataset&filter={text}")
    told = re.findall(r'<td class="mono">([^<]*)</td><td>([^<]*)</td>', page)
    assert told == [
        ("properties.rows.int_value &gt; 1", "56 found"),
        ("state = DELETED", "0 found"),
        ("id BETWEEN 3 AND 400", "43 found"),
    ]
    assert "each condition alone" not in _text(
        client, "/artifacts?filter=id = 0 OR id = -1 AND id = 2"
    )


def test_a_run_of_versions_has_no_value_before_the_first() -> None:
    when = datetime(2026, 11, 5, tzinfo=timezone.utc)
    versions = [
        VersionRow(
            kind="artifact",
            id=1,
            type="Dataset",
            name="sales",
            number=number,
            position=number,
            commit=number,
            recorded_at=when,
            actor="nightly",
            reason=None,
            request_id=None,
            replaces=None,
            is_first=False,
            changes=[FieldAnswer("rows", before, number)],
            erasures=[],
        )
        for number, before in ((4, 3), (3, 2), (2, None))
    ]
    (run,) = runs_of(versions)
    assert [(line.before, line.after) for line in run.lines] == [(None, 4)]


def test_links_that_one_commit_put_are_shown_as_one() -> None:
    with eventstore.open("memory://") as store:
        _, execution_type, context_type = put_types(store)
        context = mlmd.Context(type_id=context_type, name="many")
        [context.id] = store.put_contexts([context])
        ids = store.put_executions([mlmd.Execution(type_id=execution_type) for _ in range(42)])
        links = [mlmd.Association(context_id=context.id, execution_id=one) for one in ids]
        with store.acting(actor="ben", reason="a backfill"):
            store.put_attributions_and_associations([], links[:40])
        for link in links[40:]:
            store.put_attributions_and_associations([], [link])
        application = make_application(
            Serving({"default": store._engine}), NoAuthentication(), PAGES
        )
        with TestClient(
            application, base_url="http://localhost", headers={"sec-fetch-site": "none"}
        ) as client:
            page = _text(client, f"/contexts/{context.id}")
            overview = _text(client, "/")
    assert "40 associations" in page
    assert page.count('<p class="why">a backfill') == 1 + 40
    assert page.count('class="version ') + page.count('class="version"') == 1 + 40 + 2 + 1
    [times] = re.findall("Commits over time <span[^>]*>(.*?)</span>", overview)
    texts = re.findall(r"<time[^>]*>(.*?)</time>", times)
    assert len(texts) == len({*texts})


def test_a_type_says_what_its_nodes_have(client: TestClient) -> None:
    page = _text(client, "/types/artifact/Dataset")
    rows = re.findall(r'<tr><td class="mono">(.*?)</td><td>(.*?)</td><td.*?>(?:<a.*?>)?(\d+)', page)
    told = {re.sub(r"<[^>]+>", "", name): (type_, int(count)) for name, type_, count in rows}
    assert told["properties.rows"] == ("INT", 56)
    assert told["properties.quality"] == ("STRING", 56)
    assert told["custom_properties.ticket not declared"] == ("STRING", 1)
    assert ">57 artifacts</a>" in page
    assert "began with" in page
    (listed,) = re.findall(r'href="([^"]*sort=properties.rows)"', page)
    assert "57 found" in _text(client, listed.replace("&amp;", "&"))
    assert client.get("/types/artifact?name=Nothing").status_code == 404


def test_what_is_copied_and_downloaded_is_what_the_page_shows(client: TestClient) -> None:
    newest = client.get("/api/v1/store").json()["at"]["position"]
    page = html.unescape(_text(client, "/artifacts/1?at=60&until=now"))
    (copied,) = re.findall(r'data-copy="(/artifacts[^"]*)"', page)
    assert parse_qs(urlsplit(copied).query)["until"] == [str(newest)]
    then = client.get("/api/v1/store?at=60").json()["at"]["position"]
    for moments, position in (("", newest), ("?at=60", then), ("?at=60&until=now", newest)):
        page = html.unescape(_text(client, f"/artifacts{moments}"))
        for form in ("csv", "arrow", "parquet"):
            (link,) = re.findall(rf'href="([^"]*format={form}[^"]*)"', page)
            assert parse_qs(urlsplit(link).query)["at"] == [str(position)]


def test_versions_of_types_and_erased_nodes_are_told_apart() -> None:
    with eventstore.open("memory://") as store:
        for version in ("", "2"):
            kind = mlmd.ArtifactType(name="Model", version=version)
            store.put_artifacts(
                [mlmd.Artifact(type_id=store.put_artifact_type(kind), name=f"m{version}")]
            )
        store.erase("artifact", 1, reason="GDPR-17")
        application = make_application(
            Serving({"default": store._engine}), NoAuthentication(), PAGES
        )
        headers = {"sec-fetch-site": "none"}
        with TestClient(application, base_url="http://localhost", headers=headers) as client:
            for address in ("/", "/artifacts"):
                assert _text(client, address).count(">version 2</span>") == 1
            assert _text(client, "/artifacts").count(">erased</span>") == 1
