"""A router with a token: the page asks for it once, keeps it in its tab, and shows nothing before."""

from pilot import ADDRESS, ask, browser, expect, picture, visit

UNAUTHORIZED = "401 (Unauthorized)"

with browser() as chromium:
    context = chromium.new_context(locale="en-US", color_scheme="light", viewport={"width": 390, "height": 700})
    with visit(chromium, may_log=[UNAUTHORIZED], context=context) as page:
        door = page.get_by_role("dialog")
        expect(door).to_be_visible()
        expect(door).to_contain_text("This router asks for a token")
        picture(page, "door-light-390")
        field = page.get_by_label("Token")
        expect(field).to_be_focused()
        page.keyboard.press("Escape")
        expect(door).to_be_visible()
        field.fill("wrong")
        page.keyboard.press("Enter")
        expect(door).to_contain_text("This is not the token.")
        expect(page.locator("#state")).not_to_have_text("● live")
        assert "svc" not in page.locator("#view").inner_text()
        field.fill("correct-horse-battery-staple")
        page.keyboard.press("Enter")
        expect(door).to_be_hidden()
        expect(page.locator("#state")).to_have_text("● live")
        expect(page.locator("#view")).to_contain_text("svc.1")
        # This tab remembers it, and nothing else does.
        page.reload()
        expect(page.locator("#state")).to_have_text("● live")
        expect(door).to_be_hidden()
        assert "correct-horse" not in page.evaluate("JSON.stringify(localStorage) + document.cookie + location.href")
        # Another token, in a view that asks again and again.
        page.goto(ADDRESS + "/#/class/svc")
        expect(page.locator("#view tbody")).to_contain_text("svc.1")
        ask("change the token")
        expect(door).to_contain_text("This is not the token.")
        field.fill("another-token-altogether")
        page.keyboard.press("Enter")
        expect(door).to_be_hidden()
        ask("join")
        expect(page.locator("#view tbody")).to_contain_text("svc.2")
    with visit(chromium, may_log=[UNAUTHORIZED], context=context) as page:
        expect(page.get_by_role("dialog")).to_be_visible()
    context.close()
