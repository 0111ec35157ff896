"""Takes the picture of the page that README.md shows, some seconds after a master was killed:

    cargo run --release -p cluster -- --seconds 400
    python tests/browser/portrait.py /usr/bin/chromium http://127.0.0.1:<port> docs

with the port of the router that the cluster calls red, and a Python that has Playwright.
"""

from pilot import browser, expect, picture, visit

with browser() as chromium, visit(chromium, height=860) as page:
    expect(page.locator("#state")).to_have_text("● live")
    expect(page.locator(".events")).to_contain_text("matchsvr.1 left: its connection ended", timeout=180_000)
    page.wait_for_timeout(8_000)
    picture(page, "page-dark")
