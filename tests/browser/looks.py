"""Both languages, both themes, small screens, and hands that hold no mouse."""

import re

from pilot import ADDRESS, assert_fits, browser, expect, picture, visit

VIEWS = {"overview": "/#/", "class": "/#/class/svc", "sessions": "/#/sessions", "session": "/#/session/1"}
CHINESE = re.compile("[\u4e00-\u9fff]")


def until_drawn(page, view):
    expect(page.locator("#state")).to_have_class("state live")
    expect(page.locator("#view")).to_contain_text("svc.1" if view != "overview" else "svc")
    if view == "overview":
        expect(page.locator(".flows svg")).to_be_visible()


def texts(page):
    """Everything that is read or read out."""
    return page.evaluate(
        """() => [document.body.innerText, ...[...document.querySelectorAll('[aria-label], [title], [placeholder]')]
            .map(e => [e.getAttribute('aria-label'), e.getAttribute('title'), e.getAttribute('placeholder')].join(' '))].join('\\n')"""
    )


with browser() as chromium:
    for language, theme in [("zh-CN", "light"), ("en-US", "dark")]:
        for view, path in VIEWS.items():
            for width in [1280, 390, 360]:
                with visit(chromium, path, width=width, theme=theme, language=language) as page:
                    until_drawn(page, view)
                    assert_fits(page)
                    found = CHINESE.findall(texts(page).replace("用中文显示", "").replace("中文", ""))
                    if language == "en-US":
                        assert not found, f"{view}: Chinese in the English page: {found}"
                    else:
                        assert len(found) > 30, f"{view}: {found}"
                        # What is left in Latin letters: names, numbers, units, words of the configuration.
                        for word in ["Classes", "session", "Nothing", "instances", "everything"]:
                            assert word not in texts(page), f"{view}: `{word}` in the Chinese page"
                    assert "undefined" not in texts(page) and "NaN" not in texts(page), view
                    assert not re.search(r"\{\w+[|}]", texts(page)), view
                    picture(page, f"{view}-{language}-{theme}-{width}", full_page=True)

    # The toggles, and that they are remembered.
    context = chromium.new_context(locale="zh-TW", color_scheme="light")
    with visit(chromium, context=context) as page:
        until_drawn(page, "overview")
        expect(page.locator("html")).to_have_attribute("lang", "zh-CN")
        ground = lambda: page.evaluate("getComputedStyle(document.body).backgroundColor")
        light = ground()
        # The system's colours are taken over while the page is open.
        page.emulate_media(color_scheme="dark")
        expect(page.locator("body")).not_to_have_css("background-color", light)
        page.locator("#language").click()
        expect(page.locator("html")).to_have_attribute("lang", "en")
        expect(page.locator("#attention")).to_contain_text("Nothing needs attention")
        page.locator("#theme").click()
        expect(page.locator("#theme")).to_contain_text("dark")
        page.locator("#theme").click()
        expect(page.locator("#theme")).to_contain_text("light")
        expect(page.locator("body")).to_have_css("background-color", light)
        page.reload()
        expect(page.locator("html")).to_have_attribute("lang", "en")
        assert ground() == light
        expect(page.locator("#theme")).to_contain_text("light")
    context.close()

    # By keys alone.
    with visit(chromium) as page:
        until_drawn(page, "overview")
        order = []
        for _ in range(12):
            page.keyboard.press("Tab")
            order.append(
                page.evaluate("document.activeElement.id || document.activeElement.innerText || document.activeElement.tagName")
            )
            ring = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
            assert ring != "none", f"the focus is not seen on {order[-1]}"
        assert order[:5] == ["skip", "name", "sessions", "language", "theme"], order
        page.locator("#view").get_by_role("link", name="svc", exact=True).first.focus()
        # It stays there while the numbers change.
        frames = page.locator("#uptime").inner_text()
        expect(page.locator("#uptime")).not_to_have_text(frames)
        page.keyboard.press("Enter")
        expect(page).to_have_url(ADDRESS + "/#/class/svc")
        expect(page.get_by_role("heading", name="svc", exact=True)).to_be_visible()
        page.keyboard.press("/")
        expect(page.get_by_placeholder("Filter by id, session, metadata")).to_be_focused()
        page.keyboard.type("svc.2")
        expect(page.locator("#view tbody tr")).to_have_count(1)
