"""The survey in a real browser, opened from disk and filled in with the keyboard alone."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from hostile import MARKUP
from PIL import Image

from lab.study.__main__ import build, tabulate

playwright = pytest.importorskip("playwright.sync_api")

CHROMIUM = shutil.which("chromium")
PAIRS = {"castles": "bell ringing", "</script><b>dogs": "barking"}
METHODS = ("bright", "dark")
LIMIT_MS = 60_000
# The page's policy forbids eval, and with it wait_for_function.
ENDED = """number => new Promise(resolve => {
  const video = document.querySelectorAll("video")[number];
  if (video.ended) resolve();
  video.addEventListener("ended", () => resolve());
})"""

pytestmark = [pytest.mark.browser, pytest.mark.skipif(CHROMIUM is None, reason="needs chromium: apt-get install chromium")]


def made(root: Path, pairs: dict[str, str]) -> Path:
    """A survey with a pair of clips, a fifth of a second each, for each pair of prompts."""
    rows = [{"name": f"{number}", "image": image, "audio": audio} for number, (image, audio) in enumerate(pairs.items())]
    (root / "prompts.json").write_text(json.dumps(rows))
    for level, method in zip((200, 50), METHODS, strict=True):
        (root / method).mkdir()
        for row in rows:
            Image.fromarray(np.full((64, 128), level + int(row["name"]), np.uint8)).save(root / method / f"{row['name']}.png")
            soundfile.write(root / method / f"{row['name']}.wav", np.random.default_rng(level).standard_normal(3200) / 10, 16000)
    build([root / method for method in METHODS], root / "prompts.json", root / "study.html")
    return root / "study.html"


@pytest.fixture(scope="module")
def survey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("study"), PAIRS)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as driver:
        running = driver.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield running
        running.close()


@pytest.fixture
def page(browser: Any, survey: Path) -> Iterator[Any]:
    """A new participant's page, from disk; a test fails if the page asks for anything else or complains."""
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    page.set_default_timeout(LIMIT_MS)
    asked, complaints = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(survey.as_uri())
    yield page
    assert complaints == []
    assert {url.split(":")[0] for url in asked} <= {"file", "blob"}
    context.close()


def test_hostile_prompts_are_asked_about_as_text(browser: Any, tmp_path: Path) -> None:
    page = browser.new_page()
    page.set_default_timeout(LIMIT_MS)
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto(made(tmp_path, {text: f"a bell {text}" for text in MARKUP.values()}).as_uri())
    asked = page.evaluate(
        """() => {
          participant = 'P-9';
          shown = shuffled(participant);
          return shown.map(() => {
            next();
            answers.push(null);
            return document.querySelector('#pair').innerText && document.querySelector('#image').textContent;
          });
        }"""
    )
    assert sorted(asked) == sorted(MARKUP.values()) and complaints == []
    assert page.evaluate("() => [window.ran ?? 'nothing', document.querySelectorAll('q *, iframe, svg').length]") == ["nothing", 0]
    page.close()


def press(page: Any, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until that element has the focus."""
    for _ in range(40):
        if page.evaluate("selector => document.activeElement.matches(selector)", selector):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"Tab does not lead to {selector}")


def begin(page: Any, participant: str) -> None:
    """Through the start page: code, test sound, and a guess of its tones until one is right."""
    tab_to(page, "#participant")
    page.keyboard.type(participant)
    while page.locator("#start").is_visible():
        tab_to(page, "#tones")
        press(page, "Enter")
        tab_to(page, "[name=heard]")
        press(page, "Space", "Enter")


def answer(page: Any, side: int) -> None:
    """Play both videos of a pair, choose one side in all three questions, and go on."""
    for number in (0, 1):
        tab_to(page, f".video:nth-of-type({number + 1}) button")
        press(page, "Space")
        page.evaluate(ENDED, number)
    for question in ("looks", "sounds", "fits"):
        tab_to(page, f"[name={question}]")
        press(page, "Space", *["ArrowRight"] * side)
    press(page, "Enter")


def saved(download: Any) -> dict[str, Any]:
    return json.loads(Path(download.path()).read_text())


def test_the_whole_survey_by_keyboard_and_its_answers_in_the_table(
    page: Any, survey: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    begin(page, "P-1")
    prompts = set()
    with page.expect_download() as download:
        for _ in PAIRS:
            fits = page.locator("legend", has_text="from left to right")
            prompts.add(tuple(fits.locator("q").all_text_contents()))
            prompts.add((page.locator("#image").text_content(), page.locator("#audio").text_content()))
            answer(page, side=1)
    assert prompts == set(PAIRS.items()), "as text, whatever stands in them"
    assert download.value.suggested_filename == "answers-P-1.json"
    answers = saved(download.value)["answers"]
    assert all(given[question] == given["shown"][1] for given in answers for question in ("looks", "sounds", "fits"))

    download.value.save_as(tmp_path / "answers.json")
    tabulate([tmp_path / "answers.json"], survey.with_suffix(".key.json"))
    assert "| dark | **all** | 2 |" in capsys.readouterr().out


def test_a_reload_goes_on_where_it_was_and_an_early_stop_saves_what_there_is(page: Any) -> None:
    begin(page, "P-2")
    answer(page, side=0)
    playwright.expect(page.locator("#pair h1")).to_have_text("Pair 2 of 2")
    page.reload()
    assert page.locator("#participant").input_value() == "P-2"
    begin(page, "")
    assert page.locator("#pair h1").text_content() == "Pair 2 of 2"
    with page.expect_download() as download:
        tab_to(page, "#stop")
        press(page, "Enter")
    assert len(saved(download.value)["answers"]) == 1


def test_a_pair_is_not_left_before_it_was_heard_and_answered(page: Any) -> None:
    begin(page, "P-3")
    page.locator("#next").click()
    assert page.locator("#pair h1").text_content() == "Pair 1 of 2"
    for question in ("looks", "sounds", "fits"):
        page.locator(f"[name={question}]").first.check()
    page.locator("#next").click()
    assert page.locator("#message").text_content() == "Please play video A to its end first."


def test_sides_and_order_follow_from_the_participant_alone(page: Any) -> None:
    names = [f"P{number}" for number in range(400)]
    orders = "names => names.map(name => JSON.stringify(shuffled(name).map(pair => pair.clips)))"
    first = page.evaluate(orders, names)
    assert page.evaluate(orders, names) == first
    counts = Counter(first)
    assert len(counts) == 8, "two orders of two pairs, two sides each"
    assert all(20 < count < 85 for count in counts.values()), "each for about an eighth"


def test_without_storage_the_survey_works_and_warns_before_it_is_lost(browser: Any, survey: Path) -> None:
    context = browser.new_context()
    page = context.new_page()
    page.add_init_script("Object.defineProperty(window, 'localStorage', { get() { throw new DOMException('no', 'SecurityError') } })")
    page.goto(survey.as_uri())
    begin(page, "P-4")
    answer(page, side=0)
    playwright.expect(page.locator("#pair h1")).to_have_text("Pair 2 of 2")
    asked = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]
    context.close()


def test_the_page_cannot_send_anything(browser: Any, survey: Path) -> None:
    page = browser.new_page()
    page.goto(survey.as_uri())
    refused = page.evaluate("""() => new Promise(resolve => {
        document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
        fetch("http://127.0.0.1:9/").catch(() => 0);
    })""")
    assert refused == "connect-src"
    page.close()
