"""The page as somebody meets it: in Chromium, served over a real connection."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace

import pytest
from playwright.sync_api import Browser, Page, Route, expect, sync_playwright

from serving import QUESTION, Fixture, listening
from specvlm.serve.app import create_app
from specvlm.serve.page.routes import filmed

PATIENCE = 180_000
"""Milliseconds for what takes one, on a machine that has others to serve."""

DARKNESS = """() => [...document.querySelectorAll("#looks canvas")].map(each => {
    const context = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
    context.drawImage(each, -Math.floor(each.width / 2), -Math.floor(each.height / 2));
    return context.getImageData(0, 0, 1, 1).data[3];
})"""
"""How dark the middle of each frame is made, 0 to 255."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def address(served: Fixture) -> Iterator[str]:
    with listening(served.app) as found:
        yield found


@pytest.fixture
def said() -> list[str]:
    """What the page says on the console."""
    return []


@pytest.fixture
def opened(browser: Browser, address: str, said: list[str]) -> Iterator[Page]:
    with browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        page = context.new_page()
        page.set_default_timeout(PATIENCE)
        expect.set_options(timeout=PATIENCE)
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.goto(address)
        yield page


def take_demo_film(page: Page) -> None:
    page.click("#demo")
    page.wait_for_selector("#looks canvas")


def ask(page: Page, question: str = "") -> None:
    page.fill("#question", question)
    page.click("#go")


def answer(page: Page, lane: str, turn: int = 1) -> str:
    return page.locator(f".turn:nth-child({turn}) .lane.{lane} .answer").inner_text()


def pruned(route: Route) -> None:
    """Ask for what the plan would choose only where it pays: a draft that sees a tenth."""
    asked = route.request.post_data or ""
    route.continue_(post_data=asked.replace('"trace":true', '"trace":true,"pruning_ratio":0.9'))


def test_upload_ask_and_follow_up(opened: Page, served: Fixture, said: list[str]):
    opened.route("**/chat/completions", pruned)
    opened.set_input_files("#file", served.film)
    opened.wait_for_selector("#looks canvas")
    clip = served.vlm.load_video(served.film)
    assert opened.locator("#looks canvas").count() == len(clip.frames)
    assert set(opened.evaluate(DARKNESS)) == {0}
    ask(opened)
    expect(opened.locator(".again button")).to_have_count(2)
    expected = served.vlm.generate(served.film, QUESTION, max_new_tokens=64)
    assert answer(opened, "ours") == answer(opened, "stock") == expected.text
    verdict = opened.locator(".result").inner_text().split("\n")
    assert float(verdict[0].removesuffix("×")) > 0
    assert verdict[1] == "as fast in decoding, and the same answer to the letter."
    assert "They answered one after the other" in opened.locator(".facts").inner_text()
    assert opened.locator(".lane.stock .draft").count() == 0
    drafted, own = (opened.locator(f".lane.ours .{how}").count() for how in ("draft", "target"))
    assert drafted + own == opened.locator(".lane.stock .target").count()
    assert drafted > own
    assert set(opened.evaluate(DARKNESS)) <= {0, round(0.64 * 255)}
    assert max(opened.evaluate(DARKNESS)) > 0  # what the draft did not see
    assert "the 29 of 289 video tokens that the draft saw." in opened.locator("#looks-about").inner_text()

    ask(opened, "What colours are there?")
    expect(opened.locator(".turn:nth-child(2) .again button")).to_have_count(2)
    history = ((QUESTION, expected.text),)
    follow_up = served.vlm.generate(served.film, "What colours are there?", max_new_tokens=64, history=history)
    assert answer(opened, "ours", 2) == answer(opened, "stock", 2) == follow_up.text
    assert not opened.locator(".turn.past .lane.stock").is_visible()
    assert said == []


def test_a_race_can_be_seen_again_and_stock_left_out(opened: Page, said: list[str]):
    take_demo_film(opened)
    ask(opened)
    expect(opened.locator(".again button")).to_have_count(2)
    whole = answer(opened, "stock")
    opened.get_by_text("Again, ten times slower").click()
    expect(opened.locator(".track.over")).to_have_count(0)
    begun = answer(opened, "stock").strip()
    assert whole.startswith(begun)
    assert len(begun) < len(whole)
    opened.get_by_text("Again", exact=True).click()
    expect(opened.locator(".track.over")).to_have_count(2)
    assert answer(opened, "stock") == whole
    opened.uncheck("#race")
    ask(opened, "What colours are there?")
    opened.wait_for_selector(".turn:nth-child(2) .facts:not(:empty)")
    assert opened.locator(".turn:nth-child(2) .lane").count() == 1
    assert said == []


def test_stop_stops_an_answer_and_not_the_page(opened: Page, served: Fixture, said: list[str]):
    def hold(route: Route) -> None:
        if '"arm":"ar"' not in (route.request.post_data or ""):
            route.continue_()

    opened.route("**/chat/completions", hold)  # stock is never answered
    take_demo_film(opened)
    ask(opened)
    expect(opened.locator(".verdict")).to_contain_text("Now stock answers")
    opened.click("#stop")
    expect(opened.locator(".verdict")).to_have_text("Stopped.")
    first = answer(opened, "ours")
    opened.unroute("**/chat/completions", hold)
    ask(opened, "What colours are there?")
    expect(opened.locator(".turn:nth-child(2) .again button")).to_have_count(2)
    history = ((QUESTION, first),)
    expected = served.vlm.generate(filmed(), "What colours are there?", max_new_tokens=64, history=history)
    assert answer(opened, "ours", 2) == expected.text
    assert said == []


def test_what_goes_wrong_is_shown(opened: Page, served: Fixture, said: list[str]):
    opened.set_input_files("#file", {"name": "film.mp4", "mimeType": "video/mp4", "buffer": b"no film"})
    expect(opened.locator("#error")).not_to_be_empty()
    assert opened.locator("#looks canvas").count() == 0
    take_demo_film(opened)
    expect(opened.locator("#error")).to_be_empty()
    ask(opened, "why? " * 1000)
    expect(opened.locator(".turn .error")).to_contain_text("4096")
    ask(opened)
    expect(opened.locator(".turn:nth-child(2) .again button")).to_have_count(2)
    assert [line.partition(":")[0] for line in said] == ["Failed to load resource"] * 2  # the browser's own words


def test_a_video_that_was_forgotten_is_sent_again(opened: Page, served: Fixture):
    take_demo_film(opened)
    served.service.sources._keys.clear()
    ask(opened)
    expect(opened.locator(".again button")).to_have_count(2)
    assert answer(opened, "ours") == served.vlm.generate(filmed(), QUESTION, max_new_tokens=64).text


def test_a_server_with_a_key_asks_for_it(browser: Browser, served: Fixture):
    locked = create_app(served.service, replace(served.service.settings, api_key="open sesame"))
    with listening(locked) as address, browser.new_context() as context:
        page = context.new_page()
        page.goto(address)
        page.click("#demo")
        page.fill("#key", "open sesame", timeout=PATIENCE)
        page.get_by_text("Use it").click()
        page.wait_for_selector("#looks canvas", timeout=PATIENCE)
        assert not page.locator("#key-row").is_visible()


@pytest.mark.part(2)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_everything_fits_a_telephone(browser: Browser, address: str, scheme: str):
    with browser.new_context(viewport={"width": 420, "height": 900}, color_scheme=scheme) as context:
        page = context.new_page()
        page.goto(address)
        take_demo_film(page)
        page.click("#why")
        assert page.locator("#legend").inner_text().count(". ") == 0  # one sentence
        ask(page)
        page.wait_for_selector(".again button", timeout=PATIENCE)
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(22, 21, 19)"
        assert dark == (scheme == "dark")
