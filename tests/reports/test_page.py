"""The page of a report: whole, on its own, and safe whatever the model says."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from planted_run import BEHAVIOR, write_planted_run

from steercpp.judging.texts import GeneratedText
from steercpp.reports.headings import heading
from steercpp.reports.report import write_report
from steercpp.runs.folder import STORE
from steercpp.runs.judgement import Judging, judge
from steercpp.runs.manifest import read_manifest
from steercpp.runs.result import open_run
from steercpp.runs.store import Store

pytestmark = pytest.mark.slow

HOSTILE = """<script>alert('x')</script><img src=x onerror="alert(1)"> {{ 7*7 }} &amp; </blockquote></body>"""
VOID = {"meta", "img", "br", "wbr"}


class Reader(HTMLParser):
    """Tags in order, and that every one is closed in its place."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, f"{tag} closes another"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = write_planted_run(tmp_path_factory.mktemp("page") / "run", strengths="-0.4:0.4:0.1")
    strengths = read_manifest(folder).plan.strengths
    with Store.reopen(folder / STORE) as store:
        for i in range(len(BEHAVIOR)):
            texts = [GeneratedText(s, i, 0, HOSTILE, 8, "length", -4.0) for s in strengths]
            store.add_texts("vector", "behavior", i, texts, token_layers=1, token_layers_plain=1)
    files = write_report(judge(open_run(folder)))
    assert files[-1].name == "report.html"
    return files[-1].read_text(encoding="utf-8")


def test_it_is_well_formed_and_loads_nothing(page: str) -> None:
    reader = Reader()
    reader.feed(page)
    assert reader.open == []
    tags = [tag for tag, _ in reader.tags]
    assert not {"script", "link", "iframe", "object", "form", "img"} & set(tags)
    for tag, attributes in reader.tags:
        assert not [name for name in attributes if name.startswith("on")], tag
        assert "src" not in attributes
        for name in ("href", "xlink:href"):
            assert (attributes.get(name) or "#").startswith("#")
    assert tags.count("svg") == page.count("<figure>") == 4  # alignment, helpfulness, trade-off, items
    ids = [attributes["id"] for _, attributes in reader.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    used = {(attributes.get(name) or "")[1:] for _, attributes in reader.tags for name in ("href", "xlink:href")}
    assert used - {""} <= set(ids)


def test_what_the_model_says_is_text(page: str) -> None:
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;" in page
    assert "{{ 7*7 }}" in page and "<script" not in page and "onerror=&#34;" in page


def test_every_point_has_a_title(page: str) -> None:
    titles = re.findall(r"<title>(.*?)</title>", page)[1:]
    for words in (
        r"at −0.3: B, normalized −0\.\d+ ± 0\.\d+",
        r"at \+0.1: P\+ − P− −?\d",
        r"at 0: prompt baseline −?0\.\d",
    ):
        assert any(re.fullmatch(f"{words}.*", title) for title in titles), words
    assert sum(title.startswith("at +0.2: B, normalized") for title in titles) == 1


def test_headings_of_words_stand_above_them(page: str) -> None:
    assert '<th scope="col" class="word">label</th>' in page and '<th scope="col">strength</th>' in page


def test_headings_are_words(page: str) -> None:
    """b_raw, p_free and lost_to_wrong stood in a page for people."""
    headings = re.findall(r"<th[^>]*>(.*?)</th>", page)
    assert not [name for name in headings if "_" in name]
    assert {"P+ − P− (95%)", "P(correct) (95%)", "lost to another choice", "B of the texts (95%)"} <= set(headings)
    controls = page.split('<h2 id="controls">Controls</h2>')[1].split("</tr>")[0]
    assert controls.count("P(correct) (95%)</th>") == 1  # once, not under both of its names
    assert "delta_lambda " not in re.sub(r"tanh\(delta_lambda s", "", page) and "Δλ" in page


def test_every_column_of_a_report_has_words() -> None:
    assert heading("pass_at_1_wolf2024_low") == "pass@1, wolf2024, low end"
    assert (
        heading("alignment_raw_se") == "P+ − P−, s.e."
        and heading("over_refusal_high") == "over-refusal (share), high end"
    )
    assert heading("something_new") == "something new"


def test_it_tells_the_verdict_the_fits_and_what_is_off(page: str, tmp_path: Path) -> None:
    text = re.sub(r"<[^>]+>", " ", page)
    for words in ("Use strength +", "tanh(delta_lambda s + b0)", "anti-steerable", "Samples of what failed"):
        assert words in text
    folder = write_planted_run(tmp_path / "run", strengths="-0.4:0.4:0.1")
    manifest = read_manifest(folder)
    strict = write_report(judge(open_run(folder), Judging(max_loss=0.001)), out=tmp_path / "out")[-1].read_text()
    assert strict.count("Already the smallest strength, +0.1, costs") == 1  # in the verdict alone
    assert "No strength to recommend: it costs too much." in strict
    for why in manifest.controls_off.values():
        assert why in strict


def test_signs_are_true_minus_signs_and_the_verdict_says_of_which_items_it_is(page: str) -> None:
    """Axes had minus signs and labels hyphens; gain and cost differed from the table below without a word."""
    figures = " ".join(re.findall(r"(?<=>)[^<]+(?=</(?:text|title)>)", page))
    cells = " ".join(re.findall(r"(?<=>)[^<]+(?=</td>)", page))
    for part in (figures, cells):
        assert "−0.4" in part and not re.search(r"[ >(]-[0-9.]", part)
    verdict = page[page.index('class="headline"') : page.index("<nav")]
    assert "Gain and cost are of held-out items" in verdict
