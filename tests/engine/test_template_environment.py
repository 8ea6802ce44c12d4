"""Chat templates as code: what they may use, what they may not, and that none works without end."""

from __future__ import annotations

import os
import re
from typing import Any

import pytest

from steercpp.engine.compiled_template import RefusedError, StoppedError, compile_template
from steercpp.engine.template_budget import limited_time
from steercpp.engine.template_syntax import LONGEST_SOURCE
from steercpp.errors import PromptError

CHAT = [{"role": "user", "content": "Say <b>'hi' & bye</b> ü"}]


def written(source: str, **variables: Any) -> str:
    return compile_template(source).run({"messages": CHAT, "tools": None, **variables}, date="2026-11-29")


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
    "repeated in a loop": "{% for a in range(100000) %}{% set x = 'a' * 4000000 %}{% endfor %}",
    "long texts kept": "{% set n = namespace(x=1) %}{% set t = 'a' * 3900000 %}{% for a in range(9999) %}"
    "{% set n.x = [n.x, t ~ 'b'] %}{% endfor %}",
    "long sums kept": "{% set n = namespace(x=1) %}{% set t = 'a' * 3900000 %}{% for a in range(9999) %}"
    "{% set n.x = [n.x, t + 'b'] %}{% endfor %}",
    "one text of many": "{% set t = 'a' * 3900000 %}{% set x = " + " ~ ".join(["t"] * 2000) + " %}",
    "copied lists": "{% set x = [1] * 60000 %}{% for a in range(100000) %}{% set y = x[1:] %}{% endfor %}",
    "added lists": "{% set n = namespace(x=[1]) %}{% for a in range(99) %}{% set n.x = n.x + n.x %}{% endfor %}",
    "gone over": "{% set x = [1] * 60000 %}{% for a in range(100000) %}{{ x | select | list | length }}{% endfor %}",
    "lengths": "{% for a in range(100000) %}{% for b in range(100) %}{{ messages | length }}{% endfor %}{% endfor %}",
    "repeated and kept": "".join(f"{{% set a{i} = 'a' * 4000000 %}}" for i in range(1500)),
    "repeated markup": "{% for a in range(100000) %}{% set x = ('a' | e) * 4000000 %}{% endfor %}",
    "percent in a loop": "{% for a in range(100000) %}{% set x = '%3999990d' % 1 %}{% endfor %}",
    "batches": "{% for a in range(100000) %}{% for b in [1] | batch(62000, 'x') %}{% endfor %}{% endfor %}",
    "membership of a range": "{% for a in range(100000) %}{{ 'a' in range(100000) }}{% endfor %}",
    "largest of a range": "{% for a in range(100000) %}{{ range(100000) | max }}{% endfor %}",
    "joined iterator": "{{ ('b' * 4000000).join(range(1000) | map('string')) }}",
    "long numbers": "{% set x = ('f' * 1000000) | int(base=16) %}{% for a in range(100000) %}{{ x // 3 }}{% endfor %}",
    "stripped": "{{ ('a' * 4000000).strip('b' * 3000000 ~ 'a') }}",
    "trimmed": "{{ ('a' * 4000000) | trim('b' * 3000000 ~ 'a') }}",
    "found from the end": "{{ ('a' * 2000000).rfind('a' * 500000 ~ 'b' ~ 'a' * 500000) }}",
    "wrapped spaces": "{{ (' ' * 3900000) | wordwrap(5) }}",
    "written text": "{% for a in range(100000) %}{{ 'a' * 600 }}{% endfor %}",
    "a long date": "{{ strftime_now('%c' * 1000000) }}",
    "kept in a chain": "{% set n = namespace(x=1) %}{% for a in range(9999) %}{% set n.x = [n.x, 'a' * 99999] %}"
    "{% endfor %}",
    "wordwrap": "{{ ('a' * 100000) | wordwrap(1, true, 'b' * 100000) }}",
    "indented JSON": "{{ [1, 2] | tojson(indent=10000000000) }}",
    "cut texts": "{% set c = cycler(1) %}{% for i in range(99999) %}{% for j in range(9999) %}"
    "{{ c.next() | string | truncate(0, true, '') }}{% endfor %}{% endfor %}",
    "groups": "{{ range(90000) | groupby('real') | list | length }}",
    "sorted texts": "{{ range(99999) | map('string') | sort | join | length }}",
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


@pytest.mark.parametrize(
    "source",
    [
        "{% if 0 %}" + "{% elif 0 %}" * 8000 + "{% endif %}",
        "{{ " + "<".join(["a"] * 45_000) + " }}",
        "{{ [" + "a," * 45_000 + "] }}",
        "{{ a }}" * 14_000,
    ],
    ids=["elif", "comparison", "list", "output"],
)
def test_a_template_of_many_parts_is_not_compiled(source: str) -> None:
    """Compiling these took up to minutes, each time that the template was asked for."""
    with pytest.raises(PromptError, match="broken: it has too many parts, or too many within each other"):
        written(source)


def test_a_clock_stops_what_is_not_counted_rightly(monkeypatch: pytest.MonkeyPatch) -> None:
    times = iter((0.0, 0.0, *[11.0] * 1000))
    monkeypatch.setattr("steercpp.engine.template_budget.thread_time", lambda: next(times))
    with limited_time(), pytest.raises(StoppedError, match="it works too long"):
        written("{{ messages[0].content }}")


# Ways out of Jinja's sandbox that were published, or that its documentation warns of; CVE-2016-10745, CVE-2019-10906,
# CVE-2024-56201, CVE-2024-56326, CVE-2025-27516 among them.
ESCAPES = (
    "{{ ('{0.__globals__[os].environ[CANARY]}' | attr('format'))(raise_exception) }}",
    "{{ ('{0.__init__.__globals__}' | attr('format'))(cycler) }}",
    "{{ '{0.__class__.__mro__}'.format(messages) }}",
    "{{ '{x.__class__}'.format_map({'x': 1}) }}",
    "{{ ('{x.__class__}' | attr('format_map'))({'x': 1}) }}",
    "{{ '{0[__class__]}'.format(messages) }}",
    "{% set f = '{0.__class__}'.format %}{{ f(1) }}",
    "{% set n = namespace(f='{0.__class__}'.format) %}{{ n.f(1) }}",
    "{{ ['{0.__class__}'] | map('format', messages) | list }}",
    "{{ ['{0.__class__}'] | map('attr', 'format') | list }}",
    "{{ ['{0.__class__}'] | map(attribute='format') | list }}",
    "{{ (['{0.__class__}'] | map('attr', 'format') | first)(messages) }}",
    "{{ messages | map(attribute='__class__') | list }}",
    "{{ messages | groupby('__class__') }}",
    "{{ messages | selectattr('__class__.__mro__') | list }}",
    "{{ messages | sum(attribute='__class__') }}",
    "{{ [''] | map('attr', '__class__') | list }}",
    "{{ '' | attr('__class__') }}",
    "{{ ''['__class__'] }}",
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ ().__class__.__base__.__subclasses__() }}",
    "{{ raise_exception.__globals__ }}",
    "{{ raise_exception | attr('__globals__') }}",
    "{{ raise_exception.__code__.co_consts }}",
    "{{ strftime_now.__self__ }}{{ strftime_now._function.__self__ }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ cycler.__init__.__globals__.os }}",
    "{{ joiner.__init__.__globals__ }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ namespace(a=1)._Namespace__attrs }}",
    "{{ dict.mro() }}",
    "{{ self.__init__.__globals__ }}",
    "{{ self._TemplateReference__context.environment }}",
    "{% block b %}{{ self.b.__func__ }}{{ super.__globals__ }}{% endblock %}",
    "{% macro m() %}{{ caller.__globals__ }}{{ caller._environment }}{% endmacro %}{% call m() %}{% endcall %}",
    "{% macro m() %}{% endmacro %}{{ m.__globals__ }}{{ m._func.__globals__ }}{{ m._environment }}",
    "{% macro m() %}{% endmacro %}{{ m.__init__.__globals__ }}",
    "{% for m in messages %}{{ loop.__init__.__globals__ }}{{ loop._iterator }}{% endfor %}",
    "{% for m in messages recursive %}{{ loop._recurse.__globals__ }}{% endfor %}",
    "{{ none.__class__ }}{{ x.__class__ }}{{ x._fail_with_undefined_error }}",
    "{{ (messages | map('upper')).gi_frame.f_builtins }}",
    "{{ messages.append({'role': 'x'}) }}{{ messages[0].update({'content': ''}) }}",
    "{% import 'os' as os %}{{ os.environ }}",
    "{% from 'os' import environ %}{{ environ }}",
    "{% include '/etc/passwd' %}",
    "{% extends '/proc/self/environ' %}",
    "{% debug %}",
    "{{ raise_exception }}",
    "{{ [cycler, 'a'.upper] }}",
    "{{ raise_exception ~ '' }}",
    "{{ '%s' % raise_exception }}{{ '%s' | format(cycler) }}",
    "{{ '{}'.format(raise_exception) }}",
    "{{ [range, dict] | join }}",
    "{{ (messages | map('list')) | string }}",
    "{{ raise_exception(raise_exception) }}",
)


@pytest.mark.parametrize("source", ESCAPES)
def test_no_template_sees_the_environment_or_an_object(source: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is written, if anything, is empty or plain data; what is said of a refusal has neither either."""
    monkeypatch.setenv("CANARY", "a-secret")
    chat = [dict(turn) for turn in CHAT]
    try:
        said = compile_template(source).run({"messages": chat, "tools": None}, date="2026-11-29")
        assert not re.search(r"<(class|function|module|built-in|bound|generator|_?[a-z_.]+\.[A-Z])|environ|os\.", said)
    except PromptError as error:
        said = str(error)
        assert "\n" not in said
    assert "a-secret" not in said and " at 0x" not in said and os.environ["PATH"] not in said and "root:" not in said
    assert chat == CHAT


LONG_CHAT = [{"role": "assistant" if i % 2 else "user", "content": "word " * 60} for i in range(1000)]


@pytest.mark.parametrize(
    "body",
    [
        "{% if messages | length > 1 and messages | last is mapping and messages is sequence %}{{ m.role }}{% endif %}",
        "{% for n in messages[loop.index :] | list %}{% break %}{% endfor %}{{ m.role }}",
        "{{ (messages | default([]) | first).role }}{{ one(messages, m) }}",
        "{% set n.text = n.text ~ m.role ~ ': ' ~ m.content %}{% set n.text = n.text + '\n' %}",
        "{% set n.kept = n.kept + [m] %}{% if n.kept | length != loop.index %}{{ raise_exception('no') }}{% endif %}",
        "{% set n = namespace(chat=messages) %}{{ n.chat[loop.index0].content }}",
    ],
)
def test_what_looks_at_a_chat_from_outside_does_not_weigh_it(body: str) -> None:
    """Each message that was asked for the number of messages once took the steps of them all."""
    start = "{% macro one(chat, m) %}{{ m.content }}{% endmacro %}{% set n = namespace(text='', kept=[]) %}"
    source = start + "{% for m in messages %}" + body + "{% endfor %}{{ n.text | length }}"
    assert written(source, messages=LONG_CHAT)


def test_a_refusal_of_many_lines_is_told_in_one() -> None:
    with pytest.raises(RefusedError) as caught:
        written("{{ raise_exception('no\n\x1b[31m' * 100000) }}")
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500
    with pytest.raises(PromptError) as caught_too:  # what was wrong: controls were kept for whoever writes the message
        written("{{ {}['\x1b[31m'] + 1 }}{{ '\x1b[31m' | batch('\x1b') | list }}{{ 'a' | round('\x1b') }}")
    assert str(caught_too.value).isprintable()


def test_long_messages_have_more_steps() -> None:
    long = [{"role": "user", "content": "word " * 400_000}] * 3
    source = "{% for m in messages %}{{ m.content | trim }}{{ m.content.split('word') | length }}{% endfor %}"
    assert written(source, messages=long).count("400001") == 3
