"""report.html in a real browser, headless Chromium; skipped where it is not installed."""
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pytest

from src.dataset import load_dataset
from src.evaluation.explain import VETOED
from src.game.decisions import read_decisions
from src.game.mirror_descent import Game
from src.game.rule import Rule, reason
from src.game.strategies import IFRQE, STRATEGIES
from src.report.page import HTML
from tests.report.reading import vetoed_items

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
DRIVER = shutil.which("chromedriver")
PHONE, DESK = 380, 1200

pytestmark = pytest.mark.skipif(not (CHROMIUM and DRIVER), reason="chromium or chromedriver is not installed")

# for every element with text of its own: the ratio of its colour to the colour behind it (WCAG 2.2, contrast ratio)
CONTRAST = """
const channel = c => c <= 0.03928 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4;
const luminance = c => 0.2126 * channel(c[0] / 255) + 0.7152 * channel(c[1] / 255) + 0.0722 * channel(c[2] / 255);
const parse = text => text.match(/[\\d.]+/g).map(Number);
function behind(e) {
  for (; e; e = e.parentElement) {
    const c = parse(getComputedStyle(e).backgroundColor);
    if (c.length === 3 || c[3] > 0) return c;
  }
}
function ratio(a, b) {
  const [x, y] = [luminance(a), luminance(b)].sort((p, q) => q - p);
  return (x + 0.05) / (y + 0.05);
}
const found = [];
for (const e of document.body.querySelectorAll("*")) {
  if (["SCRIPT", "STYLE", "OPTION", "NOSCRIPT"].includes(e.tagName.toUpperCase()) || !e.getClientRects().length) continue;
  const style = getComputedStyle(e);
  if (Array.from(e.childNodes).some(n => n.nodeType === 3 && n.textContent.trim())) {
    found.push([e.textContent.trim().slice(0, 40), ratio(parse(style.color), behind(e))]);
  }
}
return found;
"""


@pytest.fixture(scope="module")
def browser():
    """A browser in which nothing can be fetched from a network."""
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service
    options = Options()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                     "--host-resolver-rules=MAP * ~NOTFOUND"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(DRIVER))
    yield driver
    driver.quit()


@pytest.fixture
def visit(browser, finished_run):
    """visit(width, scheme, anchor) opens the report of the finished run; returns the browser."""
    page = (Path(finished_run.output_path) / HTML).resolve().as_uri()

    def go(width=DESK, scheme="light", anchor=""):
        browser.get("about:blank")
        browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": width == PHONE})
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        browser.get_log("browser")  # what came before
        browser.get(f"{page}{anchor}")
        return browser
    return go


def interactions(browser):
    """(item id, disclosed, reason) of every entry on the page."""
    return [tuple(row) for row in browser.execute_script(
        "return Array.from(document.querySelectorAll('.entry'), e => "
        "[Number(e.dataset.item), e.classList.contains('used'), e.querySelector('.why').textContent])")]


def somebody(browser, dataset):
    """Shows the user with the longest history of whom something is vetoed; returns what is theirs: (n,) bool, and vetoed."""
    ids = map(int, browser.execute_script("return data.users.map(u => u.id)"))
    users = [np.flatnonzero(dataset.user_ids == i)[0] for i in ids]
    user = max((user for user in users if len(vetoed_items(dataset, user))), key=lambda user: (dataset.user == user).sum())
    browser.execute_script("show(data.users.find(u => u.id === arguments[0]))", str(dataset.user_ids[user]))
    return dataset.user == user, dataset.item_ids[vetoed_items(dataset, user)].tolist()


def slide(browser, step):
    browser.execute_script("const s = document.getElementById('budget'); s.value = arguments[0]; "
                           "s.dispatchEvent(new Event('input'))", step)


@pytest.mark.parametrize("width, scheme", [(PHONE, "dark"), (DESK, "light")])
def test_it_opens_without_errors_and_everything_is_legible(visit, width, scheme):
    browser = visit(width, scheme)
    assert browser.get_log("browser") == []
    wide = browser.execute_script("return [innerWidth, document.documentElement.scrollWidth, "
                                  "Array.from(document.querySelectorAll('body *')).filter(e => "
                                  "e.tagName !== 'FIGURE' && e.scrollWidth > e.clientWidth + 1 && "
                                  "getComputedStyle(e).overflowX !== 'visible')"
                                  ".map(e => e.tagName)]")
    assert wide[0] == width and wide[1] <= width and wide[2] == []  # no horizontal scroll, but of pictures
    pictures = browser.find_elements("tag name", "img")
    assert len(pictures) == 5 and all(img.size["width"] >= 500 and len(img.get_attribute("alt")) > 40 for img in pictures)
    found = browser.execute_script(CONTRAST)
    assert len(found) > 250 and not [text for text, ratio in found if ratio < 4.5]
    dark = browser.execute_script("return getComputedStyle(document.body).backgroundColor")
    assert (dark == "rgb(255, 255, 255)") == (scheme == "light")


def test_the_slider_plays_the_game_and_goes_back_to_what_was_decided(visit, finished_run):
    """The page's selection at a budget against the game of all users at that budget."""
    dataset = load_dataset(finished_run)
    decisions = read_decisions(finished_run, dataset)
    b = decisions.unwillingness
    game = Game(decisions.expected, b, finished_run)
    browser = visit()
    mine, vetoed = somebody(browser, dataset)
    item, first = dataset.item_ids[dataset.item[mine]], interactions(browser)
    decided = {**dict(zip(item, decisions.disclosed[mine])), **dict.fromkeys(vetoed, False)}
    assert {item: used for item, used, _ in first} == decided
    assert browser.find_element("id", "sum").text.startswith(
        f"It was decided: {sum(decided.values())} of their {len(decided)} ")
    for step in (0, 7, 30, 60, 85, 100):
        selection, weight = game.within(step / 100 * b.sum())
        slide(browser, step)
        shown = interactions(browser)
        assert len(shown) == mine.sum() + len(vetoed) and {i for i, used, _ in shown if used} == set(item[selection[mine]])
        rule = Rule(dataclasses.replace(decisions, weight=weight))
        reasons = rule.reasons(decisions.expected[mine], b[mine], selection[mine])
        assert {i: why for i, _, why in shown} == {**dict(zip(item, reasons)), **dict.fromkeys(vetoed, VETOED)}
        assert browser.find_element("id", "share").text == f"{step}%"
    assert vetoed and browser.find_element("id", "sum").text.startswith("By the rule of the game")
    browser.find_element("id", "decided").click()
    assert interactions(browser) == first


def followed(browser):
    """Item ids of the list that follows from the selection, and which of them are marked as new."""
    rows = browser.execute_script("return Array.from(document.querySelectorAll('#follows li'), "
                                  "e => [Number(e.dataset.item), e.textContent.endsWith(' (new)')])")
    return [item for item, _ in rows], [item for item, new in rows if new]


def test_the_list_follows_the_slider(visit):
    browser = visit()
    show = "show(data.users[3]); return data.users[3].live.map(items => items.map(i => Number(data.items[i][0])))"
    lists = browser.execute_script(show)
    slide(browser, 0)
    items, new = followed(browser)
    assert items in lists and new == [item for item in items if item not in lists[-1]]
    assert browser.find_element("id", "fresh").text.startswith(f"{len(new)} of 10 are new")
    slide(browser, 100)
    assert followed(browser)[0] == lists[-2]
    browser.find_element("id", "budget").send_keys(*["\ue012"] * 90)  # the left arrow
    assert followed(browser)[0] in lists[:5] and browser.find_element("id", "share").text == "10%"
    browser.execute_script("delete data.users[3].live; show(data.users[3])")  # one of whom the file has none
    assert not browser.find_element("id", "live").is_displayed()


def test_users_are_picked_by_id_at_random_or_not_found(visit):
    browser = visit(PHONE)
    assert browser.find_element("id", "user").get_attribute("value") != ""
    field, button = browser.find_element("id", "user"), browser.find_element("css selector", "#pick [type=submit]")
    ids = browser.execute_script("return data.users.map(u => u.id)")
    field.clear()
    field.send_keys(ids[7])
    button.click()
    assert browser.current_url.endswith(f"#user={ids[7]}")
    chosen = interactions(browser)
    assert interactions(visit(PHONE, anchor=f"#user={ids[7]}")) == chosen  # the address can be passed on
    field, button = browser.find_element("id", "user"), browser.find_element("css selector", "#pick [type=submit]")
    missing = next(str(k) for k in range(1, 61) if str(k) not in ids)
    field.clear()
    field.send_keys(missing)
    button.click()
    assert f"User {missing} is not among the 40 in this file" in browser.find_element("id", "said").text
    seen = set()
    for _ in range(12):
        browser.find_element("id", "random").click()
        seen.add(field.get_attribute("value"))
    assert len(seen) > 3 and seen <= set(ids) and browser.find_element("id", "said").text == ""
    assert "40 of\n60 users" in browser.page_source
    assert len(browser.find_elements("css selector", "#lists ol")) == 2 and browser.get_log("browser") == []
    headings = [e.text for e in browser.find_elements("css selector", "#lists h3")]
    assert headings == ["Recommended before, from everything", "Recommended after, from what is disclosed"]
    browser = visit(anchor="#user=50%")  # an address that is none
    assert browser.get_log("browser") == [] and interactions(browser)
    assert "User 50% is not among" in browser.find_element("id", "said").text


def test_the_page_says_the_same_sentences(visit):
    """The functions of the page against those of the terminal, on a grid that has every case."""
    browser = visit()
    values = [-0.01, 0.0, 0.0001, 0.004, 0.0134, 0.3, 5.0]
    prices = [0.0, 0.0003, 0.0142, 0.9]
    yes_no = (False, True)
    rows = [[e, p, v, d, s] for e in values for p in prices for v in yes_no for d in yes_no for s in yes_no]
    said = browser.execute_script("return arguments[0].map(row => reason(...row))", rows)
    otherwise = STRATEGIES[IFRQE].otherwise
    assert said == [VETOED if v else reason(e, p, d, s, otherwise) for e, p, v, d, s in rows] and len(set(said)) > 15


def test_a_baseline_gives_its_reasons(visit):
    browser = visit()
    browser.execute_script("data.played = false; data.sentences = ['disclosed: yes', 'withheld: no']; data.prices = null;"
                           "data.agreement = null; data.weight = null; show(data.users[0])")
    assert {why for _, _, why in interactions(browser)} <= {"disclosed: yes", "withheld: no", "withheld: they forbade it"}
