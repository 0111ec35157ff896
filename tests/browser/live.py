"""What happens at the router is seen: numbers, masters, who left, what is lost and held up, its end and the next."""

import re

from pilot import ADDRESS, ask, browser, expect, picture, visit


def numbers(page, locator):
    """Waits until a number has been seen that is not 0, and then another one."""
    expect(locator).to_have_text(re.compile(r"[1-9]"))
    first = locator.inner_text()
    expect(locator).not_to_have_text(first)


def row(page, name):
    return page.locator("#view section", has=page.get_by_role("heading", name="Classes")).locator(
        "tbody tr", has=page.get_by_role("link", name=name, exact=True)
    )


with browser() as chromium, visit(chromium, may_log=["ERR_", "Failed to load"]) as page:
    state = page.locator("#state")
    attention = page.locator("#attention")
    events = page.locator(".events")
    expect(state).to_have_text("● live")
    expect(page.locator("#name")).to_have_text("main")
    expect(page.locator("#version")).to_have_text(re.compile(r"Switchboard \d+\.\d+"))
    expect(attention).to_contain_text("Nothing needs attention")

    # What a node sends is counted while it sends.
    ask("talk")
    numbers(page, page.locator("#frames"))
    numbers(page, row(page, "svc").locator("td").nth(2).locator("div").first)
    expect(row(page, "game").locator("td").nth(3).locator("div").first).to_have_text(re.compile(r"[1-9].*/s"))
    expect(row(page, "svc").locator(".spark .line")).to_have_attribute("d", re.compile("L"))
    bands = page.locator(".flows path title")
    expect(bands.filter(has_text="game → svc: ")).to_have_count(1)
    expect(page.locator(".flows svg")).to_have_attribute("aria-label", re.compile(r"game → svc: [1-9]"))

    # A node that is killed is told with its reason, and its office with its new holder.
    expect(row(page, "svc").locator("td").nth(1)).to_contain_text("svc.1")
    ask("kill")
    expect(events).to_contain_text("svc.1 left: its connection ended")
    expect(events).to_contain_text("svc.2 is master of svc now")
    expect(row(page, "svc").locator("td").nth(1)).to_contain_text("svc.2")
    expect(attention).to_contain_text("Gone and not back: svc.1 (its connection ended,")
    newest = events.locator("li").first.locator("time").get_attribute("datetime")
    oldest = events.locator("li").last.locator("time").get_attribute("datetime")
    assert newest >= oldest, "the newest event comes first"
    ask("return")
    expect(events).to_contain_text("svc.1 is master of svc now")
    expect(attention).not_to_contain_text("svc.1")

    # What is lost is loud, and is not forgotten at once.
    ask("lose")
    expect(row(page, "quiet").locator(".loud")).to_have_text(re.compile(r"▲ .*/s"))
    expect(page.locator("#lost")).to_have_class("bad")
    expect(attention).to_contain_text(re.compile(r"quiet loses .* frames/s"))
    ask("stop losing")
    expect(attention).to_contain_text(re.compile(r"quiet lost [1-9][\d,]* frames in the last two minutes"))

    # Frames that wait, an office that nobody holds.
    ask("park")
    expect(attention).to_contain_text(re.compile(r"park has no instance\. 3 frames wait for an instance"))

    # Who does not read comes first, and who is held up for it is told.
    ask("stuff")
    slow = page.locator("#view section", has=page.get_by_role("heading", name="Fullest mailboxes"))
    expect(slow.locator("tbody tr").first).to_contain_text("svc.3")
    expect(slow.locator("tbody tr").first).to_contain_text("MiB")
    expect(attention).to_contain_text("1 session is not read, because a mailbox is full")
    picture(page, "troubles-dark", full_page=True)

    # A class, and a session.
    row(page, "db").get_by_role("link", name="db", exact=True).click()
    expect(page.get_by_role("heading", name="db")).to_be_visible()
    expect(page.locator("#view")).to_contain_text("4 slots, 3 empty: keys that lead there find nobody.")
    expect(page.locator(".slots .hole")).to_have_text(["✕0", "✕1", "✕3"])
    page.goto(ADDRESS + "/#/class/svc")
    members = page.locator("#view section", has=page.get_by_role("heading", name="Instances"))
    expect(members.locator("tbody tr")).to_have_count(3)
    expect(members.locator("tbody tr").first).to_contain_text("★ master")
    members.get_by_role("button", name="weight").click()
    expect(members.locator("tbody tr").first).to_contain_text("svc.3")
    expect(members.locator("thead th", has_text="weight")).to_have_attribute("aria-sort", "descending")
    picture(page, "class-dark", full_page=True)
    members.locator("tbody tr", has_text="svc.2").locator("a").first.click()
    expect(page.get_by_role("heading", name=re.compile(r"Session \d+"))).to_be_visible()
    expect(page.locator("#view")).to_contain_text("svc.2")
    picture(page, "session-dark")
    ask("kill svc.2")
    expect(page.locator("#view")).to_contain_text(re.compile(r"Session \d+ is over"))
    page.go_back()
    expect(members.locator("tbody tr")).to_have_count(2)

    # A configuration that is refused, one that is taken over, a router that leaves, and one that is gone.
    page.goto(ADDRESS + "/#/")
    ask("reload badly")
    expect(attention).to_contain_text("The last reload was refused: ")
    ask("reload")
    expect(events).to_contain_text("Configuration reloaded.")
    expect(attention).not_to_contain_text("The last reload was refused: ")
    ask("drain")
    expect(state).to_have_text("▽ draining")
    expect(attention).to_contain_text("The router is leaving: ")
    ask("end")
    expect(state).to_have_text("✕ reconnecting")
    expect(attention).to_contain_text("Nothing has been heard from the router for")

    # Another router takes its place: what was known of the first is not told of the second.
    ask("start another")
    expect(state).to_have_text("● live")
    expect(page.locator("#name")).to_have_text("next")
    expect(events).to_contain_text("svc.7 joined")
    expect(events).not_to_contain_text("svc.1")
