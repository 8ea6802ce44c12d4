"""The pages under docs/: the site builds without a warning, links arrive, commands exist, the tutorial is true.

Their Python is run by test_readme.py, the commands of docs/study.md by tests/experiments/study/test_docs.py.
"""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click
import pytest
from click.testing import CliRunner
from places import ROOT

import steercpp
from steercpp.cli.main import COMMANDS, main

DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted(DOCS.glob("*.md"))]
NAMES = [str(page.relative_to(ROOT)) for page in PAGES]
GONE = re.compile(
    r"\b(said|told|anew|asked in words|walled in|surest|so many nats|gone on with|heeds?|thereof|wherein)\b",
    re.IGNORECASE,
)
FENCE = re.compile(r"^( *)(`{3,}|~{3,})[^\n]*\n.*?^\1\2 *$", re.MULTILINE | re.DOTALL)


def text_of(page: Path) -> str:
    return page.read_text(encoding="utf-8")


# The site


@pytest.mark.slow
@pytest.mark.skipif(find_spec("sphinx") is None, reason="sphinx is not installed: pip install -e '.[docs]'")
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "-q", "-W", "--keep-going", "-n", "-d", str(tmp_path / "doctrees")]
    built = subprocess.run([*command, "-b", "html", str(DOCS), str(tmp_path / "site")], capture_output=True, text=True)
    assert built.returncode == 0 and built.stderr == "", built.stderr
    pages = {path.stem for path in (tmp_path / "site").glob("*.html")}
    assert {path.stem for path in DOCS.glob("*.md")} <= pages
    sweep = (tmp_path / "site" / "commands.html").read_text(encoding="utf-8")
    assert 'id="cmdoption-steercpp-sweep-max-loss"' in sweep and "Strengths and layers" in sweep
    api = (tmp_path / "site" / "api.html").read_text(encoding="utf-8")
    assert 'id="steercpp.Engine.activations"' in api


def test_the_sidebar_has_every_page_once() -> None:
    entries = re.findall(r"^(?:root:| *- file:) (\S+)$", text_of(DOCS / "_toc.yml"), re.MULTILINE)
    assert sorted(entries) == sorted(path.stem for path in DOCS.glob("*.md"))


def test_the_reference_has_every_command_and_every_public_name() -> None:
    commands = re.findall(
        r"^\.\. click:: steercpp\.cli\.commands\.(\w+):\1\n", text_of(DOCS / "commands.md"), re.MULTILINE
    )
    assert sorted(commands) == sorted(COMMANDS)
    names = re.findall(r"^\.\. auto(?:class|function):: (\w+)$", text_of(DOCS / "api.md"), re.MULTILINE)
    assert sorted([*names, "Saying"]) == steercpp.__all__


# Links


def slug(heading: str) -> str:
    """The anchor that GitHub gives a heading."""
    words = re.sub(r"[`*]|\[([^]]*)\]\([^)]*\)", r"\1", heading).strip().lower()
    return re.sub(r"[^\w\- ]", "", words).replace(" ", "-")


def anchors(page: Path) -> set[str]:
    return {slug(heading) for heading in re.findall(r"^#+ +(.*)$", FENCE.sub("", text_of(page)), re.MULTILINE)}


def links(page: Path) -> list[str]:
    """Targets within the repository that a page links to, images among them."""
    targets = re.findall(r"\]\(([^)\s]+)\)", FENCE.sub("", text_of(page)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


@pytest.mark.parametrize("page", PAGES, ids=NAMES)
def test_links_and_anchors_lead_somewhere(page: Path) -> None:
    for link in links(page):
        name, _, anchor = link.partition("#")
        target = (page.parent / name).resolve() if name else page
        assert target.is_file(), f"{page.name}: no file {link}"
        assert not anchor or anchor in anchors(target), f"{page.name}: no heading {link}"


def test_a_missing_anchor_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# `sweep`: what (B) is, 2 ways\n\n[here](#sweep-what-b-is-2-ways) [there](other.md#x)\n\n```\n# no\n```\n"
    )
    assert anchors(page) == {"sweep-what-b-is-2-ways"} and links(page) == ["#sweep-what-b-is-2-ways", "other.md#x"]


def test_every_page_is_reached_from_the_index() -> None:
    reached: set[Path] = set()
    waiting = [DOCS / "index.md", ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        reached.add(page)
        targets = [(page.parent / link.partition("#")[0]).resolve() for link in links(page)]
        waiting += [target for target in targets if target.suffix == ".md" and target not in reached]
    assert sorted(path.name for path in set(DOCS.glob("*.md")) - reached) == []


# Commands


def blocks(page: Path) -> Iterator[str]:
    """Blocks of code, fenced or indented, but no Python."""
    text = text_of(page)
    for fence in FENCE.finditer(text):
        if not re.match(r" *`+(python|json|\{eval-rst\})", fence[0]):
            yield fence[0].partition("\n")[2].rpartition("\n")[0]
    yield from indented(text)


def indented(text: str) -> list[str]:
    return re.findall(r"(?:^(?: {4,}|\t).*\n(?:[ \t]*\n(?= {4}))*)+", FENCE.sub("", text), re.MULTILINE)


def joined(text: str) -> str:
    """The text with commands of several lines in one."""
    return re.sub(r" *\\\n *", " ", text)


def commands(page: Path) -> Iterator[tuple[list[str], bool]]:
    """Command lines of steercpp as words, and whether each is whole: in a block of code, not within a sentence."""
    for block in blocks(page):
        for line in joined(block).splitlines():
            if (whole := re.match(r"\s*(?:\$ )?steercpp +(.*)", line)) and "COMMAND" not in line:
                words = shlex.split(whole[1], comments=True)
                end = next((at for at, word in enumerate(words) if word in {"|", "&&", ">", ";"}), len(words))
                yield words[:end], True
    for inline in re.findall(r"(?<!`)`steercpp ([^`]+)`", FENCE.sub("", text_of(page))):
        if "COMMAND" not in inline:
            yield shlex.split(inline.replace("\\|", "|")), False


def check(words: list[str], is_whole: bool) -> None:
    """Raise click's own error where a command, an option or a value of a list does not exist.

    Files need not be there; and within a sentence a command need not have all of its arguments.
    """
    context = click.Context(main, info_name="steercpp", **main.context_settings)
    command: click.Command = main
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, *words = words
        inner = command.get_command(context, name)
        if inner is None:
            raise click.UsageError(f"no command {name}")
        command, context = inner, click.Context(inner, parent=context, info_name=name, **main.context_settings)
    values, rest, _ = command.make_parser(context).parse_args(list(words))
    if "help" in values:
        return
    if rest:
        raise click.UsageError(f"words without a place: {rest}")
    for parameter in command.params:
        value = values.get(parameter.name)
        value = value if isinstance(value, str | list | tuple) else None  # click has a mark of its own for none
        if isinstance(parameter.type, click.Choice | click.IntRange | click.FloatRange) and value is not None:
            parameter.type_cast_value(context, value)
        if is_whole and parameter.required and not value:
            raise click.UsageError(f"{parameter.name} is missing")


COMMAND_LINES = [
    pytest.param(words, is_whole, id=f"{name}-{' '.join(words)[:60]}")
    for page, name in zip(PAGES, NAMES, strict=True)
    for words, is_whole in commands(page)
]


@pytest.mark.parametrize(("words", "is_whole"), COMMAND_LINES)
def test_commands_are_those_of_the_command_line(words: list[str], is_whole: bool) -> None:
    try:
        check(words, is_whole)
    except click.UsageError as error:
        pytest.fail(f"steercpp {' '.join(words)}: {error.format_message()}")


def test_most_commands_are_looked_at() -> None:
    assert len(COMMAND_LINES) > 150 and sum(line.values[1] is True for line in COMMAND_LINES) > 80


@pytest.mark.parametrize(
    "line", ["sweep model.gguf --lairs 3", "swep", "sweep a b", "show", "extract m.gguf --method svd", "data fetch x"]
)
def test_a_wrong_command_is_found(line: str) -> None:
    with pytest.raises(click.UsageError):
        check(line.split(), True)


# The tutorial


def shape(line: str) -> str:
    """A line of output without what another machine may print otherwise: numbers, and the bars of a curve."""
    return " ".join(re.sub(r"[0-9▁▂▃▄▅▆▇█]+", "0", line).split())


def shown_after(command: str, page: str) -> list[str]:
    """The lines of the first block of output that follows on a command; none where text comes first."""
    after = page.partition(f"    steercpp {command}\n")[2]
    block = re.match(r".*?\n```\n(.*?)\n```", after.partition("    steercpp ")[0], re.DOTALL)
    return block[1].splitlines() if block else []


@pytest.mark.slow
def test_the_tutorial_on_the_embedded_model_prints_what_it_shows(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    page = joined(text_of(DOCS / "tutorial.md").partition("## Your own model")[0])
    lines = [line.strip().removeprefix("steercpp ") for block in indented(page) for line in block.splitlines()]
    assert [line.split()[0] for line in lines] == ["sweep", "report", "generate"]
    for line in lines:
        threads = [] if line.startswith("report") else ["--threads", "1"]
        run = CliRunner().invoke(main, [*shlex.split(line), *threads])
        assert run.exit_code == 0, run.output
        printed = [shape(words) for words in run.stdout.splitlines()]
        assert [words for words in shown_after(line, page) if shape(words) not in printed] == []
    assert len(shown_after(lines[0], page)) > 8 and len(shown_after(lines[2], page)) == 4
    assert (tmp_path / "runs/embedded-refusal/report.html").exists()


def test_its_own_model_prints_what_the_evidence_shows() -> None:
    """tests/tables/real_models_table.py writes what the model printed; readme and tutorial show the same lines."""
    panel = text_of(DOCS / "real-models.md").partition("### sentiment")[2]
    panel = panel.partition("```\n")[2].partition("llama-server")[0]
    assert panel.count("\n") > 10
    assert panel in text_of(DOCS / "tutorial.md") and panel in text_of(ROOT / "README.md")


# Words


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CHANGELOG.md"], ids=[*NAMES, "CHANGELOG.md"])
def test_no_page_uses_words_that_sound_translated(page: Path) -> None:
    assert GONE.findall(re.sub(r"`[^`]*`", "", FENCE.sub("", text_of(page)))) == []
