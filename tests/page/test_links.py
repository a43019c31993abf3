"""Every link leads somewhere: from the first page on, one address of each shape is followed."""

from __future__ import annotations

import html
import re
from urllib.parse import parse_qsl, urlsplit

import pytest
from starlette.testclient import TestClient

import eventstore
from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.serving import Serving
from eventstore.page.pages import PAGES
from tests.page.store_of_runs import MadeStore


def shape_of(address: str) -> str:
    """What addresses have in common that differ in numbers and values alone."""
    parts = urlsplit(address)
    names = sorted({name for name, _ in parse_qsl(parts.query)})
    return f"{re.sub(r'[0-9]+', 'N', parts.path)}?{','.join(names)}"


@pytest.mark.parametrize("first", ["/", "/?at=3406&until=3975"])
def test_every_link_leads_somewhere(runs: MadeStore, first: str) -> None:
    followed, waiting, wrong = set[str](), [first], list[object]()
    known = {first}
    with eventstore.open(runs.path, read_only=True) as store:
        application = make_application(Serving({"churn": store._engine}), NoAuthentication(), PAGES)
        with TestClient(
            application, base_url="http://localhost", headers={"sec-fetch-site": "same-origin"}
        ) as client:
            while waiting:
                address = waiting.pop()
                if shape_of(address) in followed:
                    continue
                followed.add(shape_of(address))
                answer = client.get(address)
                if answer.status_code != 200:
                    wrong.append((address, answer.status_code))
                if not answer.headers["content-type"].startswith("text/html"):
                    continue
                for link in re.findall(r'<a [^>]*href="(/[^"#]*)', answer.text):
                    led = html.unescape(link)
                    if led not in known and not before_it_was(answer.text, led):
                        known.add(led)
                        waiting.append(led)
    assert wrong == []
    assert len(followed) > 40


def before_it_was(page: str, address: str) -> bool:
    """Whether a link leads back before what the page shows, where it may not be yet."""
    return '">just before commit' in page.partition(html.escape(address))[2][:60]
