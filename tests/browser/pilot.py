"""Opens pages in Chromium for the scripts beside this file, and watches what they must never do.

A script is started with the browser, the router's address, and a directory for pictures. `ask(word)` lets the
test that started it do something at the router.
"""

import os
import pathlib
import sys
from contextlib import contextmanager
from urllib.parse import urlsplit

from playwright.sync_api import expect, sync_playwright

CHROMIUM, ADDRESS, PICTURES = sys.argv[1:4]
# What should come at once may take long on a machine that has other things to do.
PATIENCE_MS = 20_000

expect.set_options(timeout=PATIENCE_MS)


def ask(word):
    """Lets the test do something, and waits until it has."""
    print(f"> {word}", flush=True)
    if sys.stdin.readline() != "done\n":
        raise SystemExit(f"nobody did {word}")


@contextmanager
def browser():
    with sync_playwright() as playwright:
        # The sandbox takes a user who is not root.
        options = ["--no-sandbox"] if os.geteuid() == 0 else []
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        try:
            yield chromium
        finally:
            chromium.close()


@contextmanager
def visit(chromium, path="/", *, width=1280, height=900, theme="dark", language="en-US", may_log=(), context=None):
    """A page, which may neither ask anybody else nor complain. `may_log`: what the browser itself may say."""
    own = context is None
    if own:
        context = chromium.new_context(
            viewport={"width": width, "height": height}, color_scheme=theme, locale=language
        )
    context.set_default_timeout(PATIENCE_MS)
    page = context.new_page()
    strangers, complaints = [], []
    home = urlsplit(ADDRESS).netloc

    def asked(request):
        parts = urlsplit(request.url)
        if parts.scheme != "data" and parts.netloc != home:
            strangers.append(request.url)

    def logged(message):
        if not any(word in message.text for word in may_log):
            complaints.append(f"{message.type}: {message.text}")

    page.on("request", asked)
    page.on("websocket", lambda socket: strangers.append(socket.url))
    page.on("console", logged)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(ADDRESS + path)
    yield page
    assert not strangers, f"requests to others: {strangers}"
    assert not complaints, f"on the console: {complaints}"
    assert page.evaluate("window.hit") is None, "somebody's text was run"
    if own:
        context.close()
    else:
        page.close()


def picture(page, name, **options):
    """Keeps a picture, for people to look at."""
    pathlib.Path(PICTURES).mkdir(parents=True, exist_ok=True)
    page.screenshot(path=f"{PICTURES}/{name}.png", **options)


def assert_fits(page):
    """Nothing is wider than the screen."""
    width = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.clientWidth]")
    assert width[0] <= width[1], f"{page.url}: {width[0]} px on a screen of {width[1]} px"
