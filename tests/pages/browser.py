"""Chromium, driven over a pipe by its DevTools protocol: layouts, pictures and PDFs of a page."""

from __future__ import annotations

import base64
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

BROWSER = os.environ.get("BROWSER_BINARY") or next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
WITHOUT_BROWSER = "no Chromium is installed: make engines, or name one in BROWSER_BINARY"


class Page:
    """One page of a browser."""

    def __init__(self, to_browser: int, from_browser: int) -> None:
        self._to = open(to_browser, "wb", buffering=0)  # noqa: SIM115
        self._from = open(from_browser, "rb", buffering=0)  # noqa: SIM115
        self._number = 0
        self._unread = b""
        self._events: list[dict[str, Any]] = []
        self._session: str | None = None
        target = self._call("Target.createTarget", url="about:blank")["targetId"]
        attached = self._call("Target.attachToTarget", targetId=target, flatten=True)
        self._session = attached["sessionId"]
        self._call("Page.enable")

    def close(self) -> None:
        self._to.close()
        self._from.close()

    def show(self, file: Path, *, width: int, medium: str = "screen", dark: bool = False) -> None:
        """Load a file at a width in pixels, as on a screen or in print."""
        size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width < 500}
        self._call("Emulation.setDeviceMetricsOverride", **size)
        scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
        self._call("Emulation.setEmulatedMedia", media=medium, features=[scheme])
        self._events.clear()
        self._call("Page.navigate", url=file.as_uri())
        while not any(event.get("method") == "Page.loadEventFired" for event in self._events):
            self._events.append(self._next())

    def ask(self, expression: str) -> Any:
        """The value of a JavaScript expression on the page."""
        answer = self._call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def picture(self, file: Path, *, height: int | None = None) -> None:
        """A PNG of the page from its top, all of it or so many pixels."""
        size = self._call("Page.getLayoutMetrics")["cssContentSize"]
        clip = {**size, "scale": 1, "height": min(size["height"], height or size["height"])}
        shown = self._call("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(shown["data"]))

    def pdf(self, file: Path) -> None:
        """The page as a PDF, as it is printed."""
        printed = self._call("Page.printToPDF", preferCSSPageSize=True, paperWidth=8.27)
        file.write_bytes(base64.b64decode(printed["data"]))

    def _call(self, method: str, **params: Any) -> Any:
        self._number += 1
        message = {"id": self._number, "method": method, "params": params}
        if self._session is not None:
            message["sessionId"] = self._session
        self._to.write(json.dumps(message).encode() + b"\0")
        while (answer := self._next()).get("id") != self._number:
            self._events.append(answer)
        assert "error" not in answer, f"{method}: {answer['error']}"
        return answer["result"]

    def _next(self) -> dict[str, Any]:
        while b"\0" not in self._unread:
            read = self._from.read(1 << 20)
            assert read, "the browser has ended"
            self._unread += read
        message, _, self._unread = self._unread.partition(b"\0")
        parsed: dict[str, Any] = json.loads(message)
        return parsed


@contextmanager
def browser_page(profile: Path) -> Iterator[Page]:
    """A page of a browser that is started for it."""
    assert BROWSER is not None
    commands, to_browser = os.pipe()
    from_browser, answers = os.pipe()
    # The browser reads from its descriptor 3 and writes to 4, whatever these are here.
    script = f'exec "$@" 3<&{commands} 4>&{answers}'
    browser = subprocess.Popen(
        [
            *("bash", "-c", script, "bash", BROWSER, "--headless", "--remote-debugging-pipe"),
            *("--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--user-data-dir={profile}"),
        ],
        pass_fds=(commands, answers),
        stderr=subprocess.DEVNULL,
    )
    os.close(commands)
    os.close(answers)
    page = Page(to_browser, from_browser)
    try:
        yield page
    finally:
        page.close()
        browser.wait()


# Which of a page's text is not where it should be. A word may break if it is wider than a line.
FAULTS = r"""
(() => {
  const found = [];
  const style = getComputedStyle(document.body);
  const line = document.body.clientWidth - parseFloat(style.paddingLeft)
    - parseFloat(style.paddingRight) - 30;
  const canvas = document.createElement('canvas').getContext('2d');
  const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  if (document.documentElement.scrollWidth > innerWidth)
    found.push('the page is ' + document.documentElement.scrollWidth + ' wide');
  const range = document.createRange();
  while (walker.nextNode()) {
    const node = walker.currentNode, parent = node.parentElement;
    if (!node.data.trim() || !parent.checkVisibility() || parent.closest('title')) continue;
    range.selectNodeContents(node);
    const box = parent.closest('svg') ? parent.closest('g').querySelector('rect') : parent;
    const outer = box.getBoundingClientRect();
    for (const rect of range.getClientRects()) {
      const isNote = parent.tagName === 'text'
        && !(rect.top > outer.top && rect.bottom < outer.bottom);
      const edge = isNote ? 1 : 0.5;
      if (rect.width && (rect.left < outer.left - edge || rect.right > outer.right + edge
          || rect.right > innerWidth + edge || rect.left < -edge))
        found.push('outside: ' + node.data.slice(0, 60));
      else if (rect.height && !isNote && getComputedStyle(parent).display !== 'inline'
          && (rect.top < outer.top - 3 || rect.bottom > outer.bottom + 3))
        found.push('above or below: ' + node.data.slice(0, 60));
    }
    canvas.font = getComputedStyle(parent).font;
    for (const word of node.data.matchAll(/[^\s-]+/g)) {
      range.setStart(node, word.index);
      range.setEnd(node, word.index + word[0].length);
      const tops = new Set([...range.getClientRects()].filter(r => r.width > 0)
        .map(r => Math.round(r.bottom)));
      if (tops.size > 1 && !/[\u2e80-\uffef\ud800-\udfff]/.test(word[0])
          && canvas.measureText(word[0]).width < line)
        found.push('broken: ' + word[0].slice(0, 60));
    }
  }
  return found;
})()
"""
