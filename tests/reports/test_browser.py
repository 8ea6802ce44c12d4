"""The pages in a browser: wide and narrow, light, dark and printed, by keyboard alone, with hostile names."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from planted_run import BEHAVIOR, write_planted_run

from steercpp.judging.texts import GeneratedText
from steercpp.provenance import json_sha256
from steercpp.reports.comparison import write_comparison
from steercpp.reports.report import write_report
from steercpp.runs.folder import STORE
from steercpp.runs.judgement import judge
from steercpp.runs.manifest import MANIFEST, read_manifest
from steercpp.runs.result import open_run
from steercpp.runs.store import Store

pytestmark = pytest.mark.slow
playwright = pytest.importorskip("playwright.sync_api", reason="needs Playwright; pip install -e '.[test]'")
axe = pytest.importorskip("axe_playwright_python.base", reason="needs axe; pip install -e '.[test]'")

CHROMIUM = os.environ.get("STEERCPP_CHROMIUM") or shutil.which("chromium") or shutil.which("google-chrome")
OFFLINE = ("--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update")
HOSTILE = (
    "<script>document.title='run'</script><img src=x onerror=alert(1)> $x_1$ \x1b[31mred\x1b[0m {{ 7*7 }} "
    "\u202egnp.exe \u200bzero\ufeff \u05e9\u05dc\u05d5\u05dd [bold]rich[/bold] &amp; </p></div>"
)
SIZES = {"wide": 1280, "phone": 360}


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    if CHROMIUM is None:
        pytest.skip("no Chromium here; install it, or name one in STEERCPP_CHROMIUM")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=list(OFFLINE))
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Reports of a run, of one with hostile names in every field, and of both compared."""
    root = tmp_path_factory.mktemp("pages")
    runs = []
    for name in ("plain", "hostile"):
        run = write_planted_run(root / "runs" / name, strengths="-0.4:0.4:0.1")
        strengths = read_manifest(run).plan.strengths
        text = HOSTILE if name == "hostile" else "A calm answer, and a longer one behind it."
        with Store.reopen(run / STORE) as store:
            for i in range(len(BEHAVIOR)):
                texts = [GeneratedText(s, i, 0, text, 8, "length", -4.0) for s in strengths]
                store.add_texts("vector", "behavior", i, texts, token_layers=1, token_layers_plain=1)
        if name == "hostile":
            _make_hostile(run / MANIFEST)
        runs.append(judge(open_run(run)))
        write_report(runs[-1], out=root / name)
    write_comparison(runs, out=root / "compared")
    return root


def _make_hostile(path: Path) -> None:
    """Hostile text in every field of a manifest that is text."""
    manifest = json.loads(path.read_text())
    manifest["command"] = f"steercpp sweep {HOSTILE}"
    manifest["notes"] = [HOSTILE]
    manifest["model"] |= {"file": HOSTILE, "path": HOSTILE, "description": HOSTILE, "architecture": HOSTILE}
    manifest["versions"] |= {"numpy": HOSTILE}
    manifest["machine"] |= {"system": HOSTILE}
    manifest["plan"]["instruction"] = HOSTILE
    manifest["plan_sha256"] = json_sha256(manifest["plan"])
    with closing(sqlite3.connect(path.parent / STORE)) as store, store:
        store.execute("UPDATE meta SET value = ? WHERE key = 'plan_sha256'", (manifest["plan_sha256"],))
    path.write_text(json.dumps(manifest))


PAGES = ("plain/report.html", "hostile/report.html", "compared/comparison.html")


class Opened:
    """A page in a browser, with what it logged and what it asked for."""

    def __init__(
        self, browser: Any, path: Path, *, width: int = 1280, scheme: str = "light", script: bool = True
    ) -> None:
        context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=script
        )
        self.page = context.new_page()
        self.logged: list[str] = []
        self.requests: list[str] = []
        self.page.on("console", lambda message: self.logged.append(message.text))
        self.page.on("pageerror", lambda error: self.logged.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(path.as_uri())


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_fits_is_silent_loads_nothing_and_is_accessible(
    browser: Any, folder: Path, name: str, scheme: str, size: str
) -> None:
    opened = Opened(browser, folder / name, width=SIZES[size], scheme=scheme)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") <= SIZES[size]
    assert opened.logged == [] and opened.requests == [(folder / name).as_uri()]
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert background == ("rgb(255, 255, 255)" if scheme == "light" else "rgb(20, 24, 29)")
    page.evaluate("document.querySelectorAll('details').forEach(each => each.open = true)")
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text())
    found = page.evaluate("axe.run()")
    serious = [
        (each["id"], node["html"][:200], node["failureSummary"])
        for each in found["violations"] if each["impact"] in ("serious", "critical")
        for node in each["nodes"]
    ]  # fmt: skip
    assert serious == []
    assert len(found["passes"]) > 15  # it did look
    page.context.close()


def test_a_page_with_a_fault_is_found(browser: Any, tmp_path: Path) -> None:
    """The checks above can fail."""
    path = tmp_path / "poor.html"
    path.write_text('<p style="color:#ddd;width:3000px">pale<img src="http://127.0.0.1:9/x.png"><script>x()</script>')
    opened = Opened(browser, path)
    page = opened.page
    assert page.evaluate("document.documentElement.scrollWidth") > 1280
    assert opened.logged and len(opened.requests) == 2
    page.evaluate((Path(axe.__file__).parent / "axe.min.js").read_text())
    found = {each["id"] for each in page.evaluate("axe.run()")["violations"]}
    assert {"color-contrast", "image-alt", "html-has-lang"} <= found
    page.context.close()


def test_hostile_names_are_text(browser: Any, folder: Path) -> None:
    opened = Opened(browser, folder / "hostile/report.html")
    page = opened.page
    assert "steered at layers 3-4" in page.title() and page.locator("script").count() == 0
    shown = page.locator("body").inner_text()
    for words in (
        "<script>document.title='run'</script>",
        "$x_1$",
        "\\x1b[31mred",
        "{{ 7*7 }}",
        "\\u202egnp.exe",
        "\\u200b",
    ):
        assert words in shown, words
    assert "\u202e" not in page.content() and "[bold]rich[/bold] &amp; </p></div>" in shown
    for name in ("dd", "blockquote", "h1"):
        assert page.locator(name).filter(has_text="gnp.exe").count() >= 1, name
    page.context.close()


def test_by_keyboard_alone(browser: Any, folder: Path) -> None:
    page = Opened(browser, folder / "plain/report.html").page
    reached, n_open = [], page.locator("details[open]").count()
    for _ in range(60):
        page.keyboard.press("Tab")
        tag = page.evaluate("document.activeElement.tagName")
        reached.append(tag)
        if tag == "SUMMARY":
            page.keyboard.press("Enter")
            break
        outline = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        assert tag == "BODY" or outline != "none", tag
    assert "A" in reached and "SUMMARY" in reached
    assert page.locator("details[open]").count() == n_open + 1
    page.context.close()


def test_section_links_lead_to_their_sections(browser: Any, folder: Path) -> None:
    page = Opened(browser, folder / "plain/report.html").page
    links = page.locator("nav a")
    assert links.count() >= 5
    for i in range(links.count()):
        target = links.nth(i).get_attribute("href")
        assert page.locator(target).count() == 1
        links.nth(i).press("Enter")
        assert page.url.endswith(target)
    page.context.close()


def test_points_have_names_without_script(browser: Any, folder: Path) -> None:
    page = Opened(browser, folder / "plain/report.html", script=False).page
    point = page.get_by_role("img", name="at +0.2: B, normalized")
    assert point.count() == 1
    assert point.locator("title").text_content().startswith("at +0.2: B, normalized")
    page.context.close()


def test_printed_it_is_black_on_white_without_navigation(browser: Any, folder: Path) -> None:
    opened = Opened(browser, folder / "plain/report.html", scheme="dark", width=800)
    page = opened.page
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    assert not page.locator("nav").is_visible()
    assert page.evaluate("document.documentElement.scrollWidth") <= 800
    assert page.pdf(format="A4").startswith(b"%PDF")
    page.context.close()
