"""Names and metadata are anybody's: whatever they look like, they are shown as text."""

from pilot import ADDRESS, browser, expect, picture, visit

HOSTILE = "<img src=x onerror=window.hit=1>"


def assert_text_only(page):
    assert page.locator("img, iframe, object, #view script, #view style").count() == 0
    assert page.evaluate("window.hit") is None


with browser() as chromium, visit(chromium, may_log=["404 (Not Found)", "400 (Bad Request)"]) as page:
    expect(page.locator("#name")).to_have_text(HOSTILE)
    view = page.locator("#view")
    # The fullest mailbox is its own.
    expect(view.locator("tbody", has_text="MiB").last).to_contain_text(HOSTILE)
    assert_text_only(page)
    picture(page, "names", full_page=True)
    page.goto(ADDRESS + "/#/sessions")
    expect(view.locator("tbody")).to_contain_text(HOSTILE)
    assert_text_only(page)
    page.goto(ADDRESS + "/#/class/9")
    expect(view.locator("tbody")).to_contain_text(f"{HOSTILE}={HOSTILE}")
    expect(view.get_by_role("heading", level=2).first).to_have_text("9")
    assert_text_only(page)
    view.locator("tbody a").first.click()
    expect(view).to_contain_text(HOSTILE)
    assert_text_only(page)
    # What stands in the address is anybody's too.
    for room in ["class", "session", "nosuch"]:
        page.goto(ADDRESS + f"/#/{room}/%3Cimg%20src=x%20onerror=window.hit=1%3E")
        assert_text_only(page)

with browser() as chromium, visit(chromium, may_log=["Content Security Policy", "TrustedHTML", "TrustedScript"]) as page:
    # If a text did become markup, the policy would stop it.
    refused = page.evaluate(
        """() => {
            const body = document.body;
            try { body['inner' + 'HTML'] = '<img src=x onerror=window.hit=1>'; } catch (error) { return error.name; }
            return 'taken';
        }"""
    )
    assert refused == "TypeError", refused
    page.evaluate(
        """() => {
            const script = document.createElement('script');
            try { script.text = 'window.hit = 1'; } catch { return; }
            document.head.append(script);
        }"""
    )
    assert page.evaluate("window.hit") is None
    refused = page.evaluate("fetch('http://127.0.0.2:1/').then(() => 'answered', error => error.name)")
    assert refused == "TypeError", refused
