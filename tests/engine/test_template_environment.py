"""Chat templates as code: what they may use, what they may not, and that none works without end."""

from __future__ import annotations

from typing import Any

import pytest

from steercpp.engine.template_environment import LONGEST_SOURCE, RefusedError, StoppedError, program
from steercpp.errors import PromptError

CHAT = [{"role": "user", "content": "Say <b>'hi' & bye</b> ü"}]


def written(source: str, **variables: Any) -> str:
    return program(source).run({"messages": CHAT, "tools": None, **variables}, date="2026-11-29")


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("{{ strftime_now('%d %B %Y') }}", "29 November 2026"),
        ("a{% generation %}b{{ messages[0].role }}{% endgeneration %}c", "abuserc"),
        ("{{ messages[0] | tojson }}", """{"role": "user", "content": "Say <b>'hi' & bye</b> ü"}"""),
        ("{{ {'b': 'ü', 'a': [1]} | tojson(sort_keys=true, ensure_ascii=true) }}", r'{"a": [1], "b": "\u00fc"}'),
        ("{{ {'a': [1]} | tojson(indent=2) }}", '{\n  "a": [\n    1\n  ]\n}'),
        ("{{ {'a': 1, 'b': 2} | tojson(separators=(',', ':')) }}", '{"a":1,"b":2}'),
        ("{% if tools is none %}none{% endif %}{% if tools %}some{% endif %}", "none"),
        ("{% for i in range(9) %}{% if i == 3 %}{% break %}{% endif %}{{ i }}{% endfor %}", "012"),
        ("{% macro m() %}[{{ caller() if caller }}]{% endmacro %}{{ m() }}{% call m() %}!{% endcall %}", "[][!]"),
        ("{% set ns = namespace(n=0) %}{% for i in range(4) %}{% set ns.n = ns.n + i %}{% endfor %}{{ ns.n }}", "6"),
        ("{{ '{} {x}'.format('a', x='b') }} {{ '%s-%d' % ('a', 1) }} {{ '%s' | format('c') }}", "a b a-1 c"),
        ("{{ [3, 1] | sort | join(',') }}{{ [1, 2] | sum }}{{ ' a ' | trim }}{{ 'ab'[::-1] }}", "1,33aba"),
        ("{{ messages | map(attribute='role') | list }}{{ {'a': 1}.items() | list }}", "['user'][('a', 1)]"),
        ("{% for k, v in {'b': 1, 'a': 2} | dictsort if v %}{{ k }}{% endfor %}{{ 'x' in 'xy' }}", "abTrue"),
    ],
)  # fmt: skip
def test_templates_have_what_transformers_gives_them(source: str, text: str) -> None:
    assert written(source) == text


def test_variables_are_handed_on() -> None:
    assert written("{{ style.words[0] }}{{ n + 1 }}", style={"words": ["a"]}, n=1) == "a2"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("{{ 1 + 'a' }}", "unsupported operand"),  # TypeError
        ("{{ {}.missing.more }}", "has no attribute 'missing'"),
        ("{% set d = {} %}{{ '{x}'.format(**d) }}", "it has no 'x'"),  # KeyError
        ("{{ 1 / 0 }}", "division by zero"),
        ("{{ 2.0 ** 100000 }}", "out of range"),  # OverflowError
        ("{{ range(10 ** 9) }}", "Range too big"),  # OverflowError
        ("{% macro f(n) %}{{ f(n) }}{% endmacro %}{{ f(1) }}", "calls itself too often"),  # RecursionError
        ("{{ 'a'.encode() }}", "it calls encode, which templates may not"),
        ("{{ (1).to_bytes(10, 'big') }}", "it calls to_bytes"),
        ("{{ [].append(1) }}", "unsafe"),
        ("{{ ''.__class__.__mro__ }}", "unsafe"),
        ("{{ lipsum() }}", "'lipsum' is undefined"),  # drawn at random
        ("{% include 'secret' %}", "no loader"),
        ("{{ 'x' | int(base=99) | nofilter }}", "No filter named 'nofilter'"),
        ("{{ [1, 2] | random }}", "No filter named 'random'"),
        ("{% for", "unexpected 'end of template'"),
        ("{{ " + "(" * 3000 + "1" + ")" * 3000 + " }}", "calls itself too often"),
        ("{% for a in [1] %}" * 30 + "{% endfor %}" * 30, "too many statically nested blocks"),  # SyntaxError
        ("{{ " + "9" * 5000 + " }}", "4300 digits"),  # ValueError
    ],
)
def test_whatever_goes_wrong_is_one_sentence(source: str, reason: str) -> None:
    with pytest.raises(PromptError) as caught:
        written(source)
    message = str(caught.value)
    assert reason in message and message.startswith("the model's chat template")
    assert "\n" not in message and "`template=raw`" in message and " at 0x" not in message


def test_a_templates_own_refusal_is_told_in_its_words() -> None:
    with pytest.raises(RefusedError, match="chat template refuses these messages: System role not supported"):
        written("{{ raise_exception('System role not supported') }}")


ENDLESS = {
    "loops": "{% for a in range(100000) %}{% for b in range(100000) %}{% endfor %}{% endfor %}",
    "conditions": "{% for a in range(100000) %}{% for b in range(100000) if false %}{% endfor %}{% endfor %}",
    "filters": "{% for a in range(100000) %}{{ range(100000) | map('string') | list | length }}{% endfor %}",
    "sums": "{% for a in range(100000) %}{{ range(100000) | sum }}{% endfor %}",
    "membership": "{% set x = 'a' * 3000000 %}{% for a in range(100000) %}{{ 'b' in x }}{% endfor %}",
    "slices": "{% set x = 'a' * 3000000 %}{% for a in range(100000) %}{{ x[1:] == x }}{% endfor %}",
    "splits": "{% set x = 'a ' * 30000 %}{% for a in range(100000) %}{% set y = x.split() %}{% endfor %}",
    "fixed text": "{% for a in range(100000) %}" + "a" * 5000 + "{% endfor %}",
    "macros": "{% macro f(n) %}{% if n %}{{ f(n - 1) }}{{ f(n - 1) }}{% endif %}{% endmacro %}{{ f(90) }}",
    "recursive loops": "{% for x in [40] recursive %}{% if x %}{{ loop([x - 1, x - 1]) }}{% endif %}{% endfor %}",
    "doubled by ~": "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    "doubled by +": "{% set n = namespace(x='a') %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "nested": "{% set n = namespace(x=1) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}{% endfor %}{{ n.x }}",
    "compared": "{% set n = namespace(x=1, y=1) %}{% for a in range(99) %}{% set n.x = [n.x, n.x] %}"
    "{% set n.y = [n.y, n.y] %}{% endfor %}{{ n.x == n.y }}",
    "keys": "{% set n = namespace(x=1) %}{% for a in range(99) %}{% set n.x = (n.x, n.x) %}{% endfor %}{{ {n.x: 1} }}",
    "namespaces": "{% set n = namespace() %}{% set n.me = [n, n] %}{{ n }}",
    "repeated": "{{ 'a' * 10000000000 }}",
    "lists": "{{ 10000000000 * [1] }}",
    "powers": "{{ 10 ** 1000000000 }}",
    "squares": "{% set n = namespace(x=9) %}{% for a in range(99) %}{% set n.x = n.x * n.x %}{% endfor %}",
    "center": "{{ 'a' | center(10000000000) }}",
    "method center": "{{ 'a'.center(10000000000) }}",
    "ljust": "{{ 'a'.ljust(10000000000) }}",
    "zfill": "{{ 'a'.zfill(10000000000) }}",
    "tabs": "{{ '\t'.expandtabs(10000000000) }}",
    "percent": "{{ '%10000000000d' % 1 }}",
    "percent star": "{{ '%*d' % (1000000000, 1) }}",
    "filter format": "{{ '%10000000000d' | format(1) }}",
    "format": "{{ '{:10000000000}'.format(1) }}",
    "format width": "{{ '{:{}}'.format(1, 1000000000) }}",
    "format map": "{{ '{x:10000000000}'.format_map({'x': 1}) }}",
    "many fields": "{{ ('{0}' * 100000).format('a' * 100000) }}",
    "indent": "{{ 'a' | indent(10000000000, true) }}",
    "replace": "{{ ('a' * 100000) | replace('a', 'b' * 100000) }}",
    "method replace": "{{ ('a' * 100000).replace('', 'b' * 100000) }}",
    "join": "{{ range(100000) | join('b' * 100000) }}",
    "method join": "{{ ('b' * 100000).join('a' * 100000) }}",
    "batch": "{{ [1] | batch(10000000000, 'x') | list }}",
    "slice": "{{ [1] | slice(10000000000) | list }}",
    "round": "{{ 1.5 | round(1000000000, 'ceil') }}",
    "wordwrap": "{{ ('a' * 100000) | wordwrap(1, true, 'b' * 100000) }}",
    "indented JSON": "{{ [1, 2] | tojson(indent=10000000000) }}",
    "when compiled": "{% autoescape 'a' | center(10000000000) %}{% endautoescape %}",
}


@pytest.mark.parametrize("source", ENDLESS.values(), ids=ENDLESS.keys())
def test_work_is_bounded(source: str) -> None:
    """Each of these would take hours or all memory; the bound counts steps and sizes, and no clock."""
    with pytest.raises(StoppedError, match="the model's chat template was stopped: it "):
        written(source)


def test_a_long_template_is_not_compiled() -> None:
    with pytest.raises(PromptError, match="has 100,001 characters, and at most 100,000 are read"):
        written("a" * (LONGEST_SOURCE + 1))


def test_long_messages_have_more_steps() -> None:
    long = [{"role": "user", "content": "word " * 400_000}] * 3
    source = "{% for m in messages %}{{ m.content | trim }}{{ m.content.split('word') | length }}{% endfor %}"
    assert written(source, messages=long).count("400001") == 3
