"""The drawing of lineage: that it says what the API says, holds still, and goes by the keyboard."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import parse_qsl

from eventstore.http_api.application import make_application
from eventstore.http_api.authentication import NoAuthentication
from eventstore.http_api.serving import Serving
from eventstore.page.pages import PAGES
from eventstore.server.web_server import WebServer
from tests.page.looks import faults, overflow
from tests.page.store_of_runs import REASON, MadeStore
from tests.pages import stores

PLACES = """
() => Object.fromEntries([...document.querySelectorAll(".node")].map(
    (node) => [node.dataset.key, node.style.transform]))
"""

MARKS = """
() => Object.fromEntries([...document.querySelectorAll(".node.node:not(.stack, .chain, .fold)")]
    .map((node) => [node.dataset.key, ["added", "changed", "gone"].find(
        (mark) => node.classList.contains(mark)) ?? "same"]))
"""

# By how many pixels the frames of two shown nodes overlap at most.
OVERLAP = """
() => {
    const boxes = [...document.querySelectorAll(".node .frame")].map(
        (frame) => frame.getBoundingClientRect());
    let most = 0;
    for (const [number, one] of boxes.entries()) {
        for (const other of boxes.slice(0, number)) {
            const across = Math.min(one.right, other.right) - Math.max(one.left, other.left);
            const down = Math.min(one.bottom, other.bottom) - Math.max(one.top, other.top);
            most = Math.max(most, Math.min(across, down));
        }
    }
    return most;
}
"""

GROUPED = """
async ([address, answer, options]) => {
    const { openedIn, shownGraph } = await import(`${address}/islands/lineage_groups.js`);
    const { marksBetween } = await import(`${address}/islands/lineage_marks.js`);
    const { laidOut } = await import(`${address}/islands/lineage_layout.js`);
    const { inColumns } = await import(`${address}/islands/lineage_columns.js`);
    const { sizeOf } = await import(`${address}/islands/lineage_drawing.js`);
    const marks = marksBetween(answer, answer.first, answer.second);
    const { nodes, edges, left } = shownGraph(answer, marks, {
        isGrouped: options.isGrouped ?? true,
        hiddenMarks: new Set(options.hide ?? []),
        opened: openedIn(options.open ?? []),
        selected: null,
    });
    const sized = nodes.map((node) => ({ key: node.key, ...sizeOf(node, "") }));
    const overlaps = [laidOut, inColumns].map((lay) => {
        const { places, lines } = lay(sized, edges);
        if (!places.flat().every(Number.isFinite) || lines.length !== edges.length) return "lost";
        return sized.some((one, number) => sized.slice(0, number).some((other, before) =>
            Math.abs(places[number][0] - places[before][0]) < (one.width + other.width) / 2 &&
            Math.abs(places[number][1] - places[before][1]) < (one.height + other.height) / 2));
    });
    const shown = nodes.map(({ form, members, type }) => [form, members.length, type]).sort();
    return { nodes: shown, left, overlaps };
}
"""


def drawn(page: Any, address: str) -> None:
    page.goto(address)
    page.wait_for_selector("[data-drawn]")


def asked_of(page: Any, address: str) -> Any:
    """What the API answers a page."""
    return page.evaluate(
        "(address) => fetch(`/api/v1/${address}`).then((it) => it.json())", address
    )


def node(page: Any, name: str) -> Any:
    return page.locator(f".node[aria-label^='{name},']")


def test_two_moments_are_one_drawing_that_follows_the_handle(
    browsing: Any, runs: MadeStore
) -> None:
    page, model = browsing, runs.pushed_model
    query = f"direction=both&hops=6&at={runs.push_position}&until=3976"
    drawn(page, f"/artifacts/{model}/lineage?{query}")
    told = asked_of(page, f"artifacts/{model}/lineage?{query}")
    for mark, count in told["counts"].items():
        assert page.inner_text(f"[data-mark={mark}] [data-count]") == str(count)
    marked = page.evaluate(MARKS)
    known = {one["key"]: one["mark"] for one in told["nodes"]}
    assert len(marked) > 20
    assert marked == {key: known[key] for key in marked}
    assert page.evaluate(OVERLAP) <= 1

    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    places = page.evaluate(PLACES)
    page.get_by_role("slider", name="Moment B").focus()
    # To the newest commit that touches it, and from there to the one before.
    page.keyboard.press("Shift+ArrowLeft")
    page.keyboard.press("Shift+ArrowLeft")
    page.wait_for_selector(".node.absent")
    assert not [address for address in asked if "lineage" in address]
    as_the_api_says(page, model, places)
    box = page.get_by_role("slider", name="Moment B").bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 8
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x - 60, y, steps=4)
    until = page.url
    page.mouse.up()
    page.wait_for_url(lambda address: address != until)
    as_the_api_says(page, model, places)
    as_the_frame_says(page)
    assert [address for address in asked if "/lineage?" in address and "api" not in address] == []


def as_the_api_says(page: Any, model: int, places: dict[str, str]) -> None:
    """The drawing, which has followed a handle, is that of the moments in the address."""
    assert page.evaluate(PLACES) == places
    query = page.url.partition("?")[2]
    assert 3406 < int(dict(parse_qsl(query))["until"]) < 3976
    then = asked_of(page, f"artifacts/{model}/lineage?{query}")
    known = {one["key"]: one["mark"] for one in then["nodes"]}
    marked = page.evaluate(MARKS)
    absent = {key for key in marked if key not in known}
    assert absent
    assert {key: mark for key, mark in marked.items() if key in known} == {
        key: known[key] for key in marked if key in known
    }
    assert page.locator(".node.absent").count() >= len(absent)
    assert page.inner_text("[data-mark=added] [data-count]") == str(then["counts"]["added"])


def as_the_frame_says(page: Any) -> None:
    """Header, foot, title, links and handles tell the moments in the address."""
    moments = dict(parse_qsl(page.url.partition("?")[2]))
    at, until = (f"position {int(moments[name]):,}" for name in ("at", "until"))
    assert f" at {at} " in page.title()
    header, foot = page.inner_text(".moments"), page.inner_text(".foot")
    for told in (header, foot):
        assert at in told
        assert until in told
    assert f"at={moments['at']}&until={moments['until']}" in page.get_attribute(".nav a", "href")
    for name, said in (("Moment A", at), ("Moment B", until)):
        handle = page.get_by_role("slider", name=name)
        text = handle.get_attribute("aria-valuetext")
        assert said in text
        assert text[:16] in header
        assert handle.locator(".label").text_content() == ""


def dragged(page: Any, name: str, across: int) -> None:
    """Drag a handle sideways, and wait for the address to say where it rests."""
    before = page.url
    box = page.get_by_role("slider", name=name).bounding_box()
    x, y = box["x"] + box["width"] / 2, box["y"] + 8
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(x + across, y, steps=4)
    page.mouse.up()
    page.wait_for_url(lambda address: address != before)
    page.wait_for_selector(".handle[transform]")


def test_a_handle_rests_where_it_was_dragged_and_never_beyond_the_other(
    browsing: Any, runs: MadeStore
) -> None:
    page = browsing
    drawn(page, f"/artifacts/{runs.pushed_model}/lineage?at={runs.push_position}&until=3700")
    dragged(page, "Moment A", 400)
    assert page.url.endswith("at=3700&until=3700")
    as_the_frame_says(page)
    # Both are at one place: the one is dragged that can go there, and then to before the answer.
    dragged(page, "Moment B", -300)
    page.wait_for_selector("[data-drawn]")
    assert int(dict(parse_qsl(page.url.partition("?")[2]))["at"]) < runs.push_position
    as_the_frame_says(page)


def test_what_the_model_was_trained_on_is_found_by_keyboard_alone(
    browsing: Any, runs: MadeStore
) -> None:
    from playwright.sync_api import expect

    page = browsing
    drawn(page, f"/artifacts/{runs.pushed_model}/lineage?hops=4&at={runs.push_position}&until=3976")
    assert "sales-11-05" in page.inner_text(".lineage-differences")
    assert REASON in page.inner_text(".lineage-differences")
    page.locator(".node[tabindex='0']").focus()
    assert page.evaluate("document.activeElement.dataset.key") == f"artifact/{runs.pushed_model}"
    page.keyboard.press("d")
    page.keyboard.press("Enter")
    panel = page.locator("[data-lineage-panel]")
    assert panel.locator("h2").inner_text() == "sales-11-05"
    for text in ("LIVE", "MARKED_FOR_DELETION", "data-quality", "DQ-1381", REASON):
        assert text in panel.inner_text()
    assert panel.locator(".way").inner_text().endswith("churn-11-05-t3")
    assert f"select=artifact/{runs.bad_dataset}" in page.url
    assert faults(page) == []
    page.keyboard.press("Escape")
    assert panel.is_hidden()
    page.keyboard.press("ArrowRight")
    assert "transform" in page.evaluate("document.activeElement.getAttribute('aria-label')").lower()
    page.keyboard.press("g")
    expect(page.locator("[data-alike]")).to_have_attribute("aria-pressed", "false")
    assert page.evaluate("document.activeElement.dataset.key") is not None
    page.keyboard.press("g")
    expect(page.locator("[data-alike]")).to_have_attribute("aria-pressed", "true")
    link = page.get_attribute("[data-copy-is=address]", "data-copy")
    assert page.url.endswith(link)
    # What lies beyond a node is fetched in its place.
    page.keyboard.press("d")
    before = page.locator(".node").count()
    page.keyboard.press("e")
    expect(page.locator(".node")).not_to_have_count(before)
    assert f"open=artifact/{runs.bad_dataset}" in page.url
    page.go_back()
    expect(page.locator(".node")).to_have_count(before)
    assert "open=" not in page.url


def test_a_stack_opens_and_closes_and_the_address_says_so(browsing: Any, runs: MadeStore) -> None:
    from playwright.sync_api import expect

    page = browsing
    drawn(page, f"/artifacts/{runs.pushed_model}/lineage?direction=both&hops=4")
    node(page, "3 \u00d7 Model").click()
    assert "select=stack/" in page.url
    panel = page.locator("[data-lineage-panel]")
    panel.get_by_role("searchbox").fill("t2")
    expect(panel.locator(".members li")).to_have_count(1)
    panel.get_by_role("button", name="Pull out").click()
    page.wait_for_url("**open=alone/artifact/*")
    expect(panel.locator("h2")).to_have_text(re.compile("t2$"))
    expect(node(page, "3 \u00d7 Model")).to_have_count(0)
    pulled = page.url
    panel.get_by_role("button", name="Back into the stack").click()
    node(page, "3 \u00d7 Model").wait_for()
    page.goto(pulled)
    page.wait_for_selector("[data-drawn]")
    assert node(page, "3 \u00d7 Model").count() == 0
    page.get_by_role("button", name="Close").click()
    page.get_by_role("button", name="Group alike").click()
    page.wait_for_url("**alike=apart**")
    expect(page.locator(".node.stack, .node.chain")).to_have_count(0)


def test_a_context_is_drawn_from_its_executions(browsing: Any) -> None:
    page = browsing
    drawn(page, "/contexts/8")
    told = asked_of(page, "contexts/8/graph")
    assert set(page.evaluate(MARKS)) == {one["key"] for one in told["nodes"]}


def test_it_fits_and_axe_finds_nothing(browsing: Any, runs: MadeStore) -> None:
    page = browsing
    drawn(
        page,
        f"/artifacts/{runs.pushed_model}/lineage?direction=both&at={runs.push_position}&until=3976"
        f"&select=artifact/{runs.bad_dataset}",
    )
    for width, scheme in ((1280, "light"), (1280, "dark"), (360, "dark"), (360, "light")):
        page.set_viewport_size({"width": width, "height": 800})
        page.emulate_media(color_scheme=scheme)
        assert faults(page) == [], (width, scheme)
        assert overflow(page) == 0


def answer(links: list[tuple[str, str]], subject: str, **marks: str) -> dict[str, Any]:
    """What the API would say of some links; all nodes are of one type a kind."""
    keys = dict.fromkeys([subject, *(key for link in links for key in link)])
    version = {"position": 1, "state": "", "changes": [], "is_erased": False, "erasures": []}
    return {
        "subject": subject,
        "first": 5,
        "second": 9,
        "nodes": [
            {
                "key": key,
                "kind": key.split("/")[0],
                "type": key.split("/")[0],
                "hops": 0,
                "beyond": 0,
                "since": 7 if marks.get(key.replace("/", "_")) == "added" else 1,
                "versions": [version],
            }
            for key in keys
        ],
        "links": [{"source": one, "target": other, "position": 1} for one, other in links],
    }


def chain(steps: int) -> list[tuple[str, str]]:
    links = []
    for step in range(steps):
        links += [
            (f"artifact/{step}", f"execution/{step}"),
            (f"execution/{step}", f"artifact/{step + 1}"),
        ]
    return links


def trials(count: int) -> list[tuple[str, str]]:
    links = []
    for number in range(1, count + 1):
        links += [
            ("artifact/0", f"execution/{number}"),
            (f"execution/{number}", f"artifact/{number}"),
        ]
    return links


def test_what_is_alike_is_grouped_and_nothing_overlaps(browsing: Any) -> None:
    page = browsing
    page.goto("/")
    link = page.get_attribute("link[href*='tokens.css']", "href")
    address = link.rsplit("/", 1)[0]

    def grouped(told: dict[str, Any], **options: Any) -> dict[str, Any]:
        found: dict[str, Any] = page.evaluate(GROUPED, [address, told, options])
        assert found["overlaps"] == [False, False]
        return found

    many = grouped(answer(trials(9), "artifact/0"))
    assert many["nodes"] == [
        ["node", 1, "artifact"],
        ["stack", 9, "artifact"],
        ["stack", 9, "execution"],
    ]
    one_added = grouped(answer(trials(9), "artifact/0", artifact_3="added"))
    assert [form for form, *_ in one_added["nodes"]].count("node") == 3
    opened = grouped(answer(trials(9), "artifact/0"), open=["group/artifact/4"])
    assert len(opened["nodes"]) == 11
    two = grouped(answer(trials(2), "artifact/0"))
    assert len(two["nodes"]) == 5

    long = grouped(answer(chain(120), "artifact/120"))
    assert next(one for one in long["nodes"] if one[0] == "chain")[1] > 200
    assert len(long["nodes"]) < 10
    ends = grouped(answer(chain(120), "artifact/120"), open=["chain/artifact/1/6/1"])
    assert len(ends["nodes"]) == len(long["nodes"]) + 10
    assert len(grouped(answer(chain(4), "artifact/4"))["nodes"]) == 9

    hidden = grouped(answer(chain(3), "artifact/3", artifact_1="added"), hide=["same"])
    assert sorted(form for form, *_ in hidden["nodes"]) == ["fold", "fold", "node", "node"]
    cut = grouped(answer(trials(400), "artifact/0"), isGrouped=False)
    assert (len(cut["nodes"]), cut["left"]) == (500, 301)
    # An artifact that goes back into the execution that made it.
    cycle = [*chain(3), ("artifact/3", "execution/0")]
    assert len(grouped(answer(cycle, "artifact/3"))["nodes"]) == 7
    assert len(grouped(answer([], "artifact/1"))["nodes"]) == 1


def test_names_with_markup_in_them_are_names(chromium: Any) -> None:
    store, kind, node_id = stores.hostile()
    web = WebServer("127.0.0.1", 0, None, 20)
    web.start(make_application(Serving({"hostile": store._engine}), NoAuthentication(), PAGES))
    try:
        with chromium.new_context(base_url=f"http://localhost:{web.port}") as context:
            page, said = context.new_page(), list[str]()
            page.on("console", lambda message: said.append(message.text))
            page.on("pageerror", lambda error: said.append(str(error)))
            drawn(
                page,
                f"/{kind}s/{node_id}/lineage?alike=apart&at=60&until=now&select={kind}/{node_id}",
            )
            text = page.inner_text("main")
            assert not re.search("[\u202a-\u202e\u2066-\u2069\x1b]", text)
            assert page.locator("main b, main i, main img, main iframe").count() == 0
            assert said == []
    finally:
        web.stop()
