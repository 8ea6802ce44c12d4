"""Chat templates that nobody's model has: drawn from a grammar, with pieces that reach outside, fail or never end."""

from __future__ import annotations

import random
from collections.abc import Callable

from steercpp.data.prompts import Message

CHATS = (
    (Message("user", "hello"),),
    (Message("system", "Be kind."), Message("user", "What is <b>it</b>?"), Message("assistant", "It."),
     Message("user", "a" * 3000)),
)  # fmt: skip

_NAMES = (
    "messages", "bos_token", "eos_token", "add_generation_prompt", "tools", "documents", "x", "y", "ns", "loop", "m",
    "self", "caller", "varargs", "kwargs", "cycler", "joiner", "lipsum", "dict", "range", "namespace", "strftime_now",
    "raise_exception", "super", "f", "true", "none", "_", "__builtins__", "environment", "context", "missing", "Markup",
)  # fmt: skip
_ATTRIBUTES = (
    "role", "content", "x", "index", "index0", "first", "last", "length", "previtem", "nextitem", "changed", "cycle",
    "depth", "revindex", "append", "update", "pop", "clear", "items", "keys", "values", "get", "setdefault", "copy",
    "format", "format_map", "join", "split", "replace", "center", "ljust", "zfill", "expandtabs", "encode", "translate",
    "maketrans", "strip", "title", "upper", "count", "find", "startswith", "splitlines", "partition", "__class__",
    "__mro__", "__subclasses__", "__globals__", "__init__", "__code__", "__dict__", "__closure__", "__self__", "mro",
    "gi_frame", "f_back", "tb_frame", "cr_frame", "func_globals", "_TemplateReference__context", "_Namespace__attrs",
    "environment", "name", "blocks", "parent", "exported_vars", "next", "reset", "current", "to_bytes", "bit_length",
    "as_integer_ratio", "hex", "fromhex", "real", "denominator", "sort", "extend", "insert", "__html__", "unescape",
    "striptags", "escape", "catch_kwargs", "arguments", "_func", "_environment", "_fail_with_undefined_error",
    "__add__", "__mul__", "__format__", "__reduce_ex__", "__getattribute__", "__call__", "__wrapped__",
    "jinja_pass_arg",
)  # fmt: skip
_NUMBERS = (
    "0", "1", "2", "-1", "3", "7", "10", "1.5", "0.0", "1e308", "1e400", "99999", "100000", "10**5", "10**9", "2**31",
    "2**63", "9**99", "9**9**7", "4*10**9", "-10**10", "1_000", "0x10", "0.1", "(9**9**8)", "10000000000",
)  # fmt: skip
_STRINGS = (
    "''", "'a'", "'role'", "'a\\nb'", "'{}'", "'{0.__class__}'", "'{0[__class__]}'", "'{x.__globals__}'", "'%s'",
    "'%d'",
    "'%1000000000d'", "'%*d'", "'%.999999999f'", "'%(x)s'", "'{:1000000000}'", "'{:{}}'", "'{0!r:>99999999}'", "'{'",
    "'\\ud800'", "'\\x00'", "'\\u202e'", "'__class__'", "'__globals__'", "'format'", "'attr'", "'<|im_start|>'",
    "'{0:{1}}'", "'%%'", "'{0}' * 1000", "'a' * 100000", "'a ' * 50000", "('\\t' * 9999)", "'é'", "'😀'", "'%c'",
    "'%Y' * 3000", "'{.real.imag}'", "'{!a}'", "'<a href=x>' * 200", "'http://a.b' * 900", "'%s' * 9999",
)  # fmt: skip
_OTHERS = (
    "[]", "{}", "()", "[1]", "[1, 'a']", "{'x': 1}", "{[]: 1}", "{1: {}}", "(1,)", "[[]] * 9", "range(9)",
    "range(99999)", "range(10**9)", "range(0, 10**9, 10**6)", "messages[0]", "messages[-1].content", "messages[99]",
    "loop", "none", "true", "namespace(a=1)", "cycler(1, 2)", "joiner(',')", "dict(a=1)", "dict(messages[0])", "x", "y",
    "strftime_now('%Y')", "strftime_now('%c' * 99)", "strftime_now(1)", "(range(99999) | list)", "messages * 9999",
    "[0] * 99999", "caller()", "self.b()", "f()", "f(1)", "m(m)", "varargs", "kwargs", "loop(messages)", "ns.a",
)  # fmt: skip
_FILTERS = (
    "abs", "attr('__class__')", "attr('format')", "attr('x')", "batch(2)", "batch(10**9)", "batch(10**9, 0)",
    "batch(0)",
    "capitalize", "center(9)", "center(10**10)", "count", "d('x')", "default(messages)", "dictsort", "e", "escape",
    "filesizeformat", "first", "float", "forceescape", "format(1)", "format('a', x=1)", "format(*messages)",
    "groupby('role')", "groupby('__class__')", "indent(4)", "indent(10**10)", "indent('x' * 99999)", "indent(-1)",
    "int",
    "int(base=99)", "items", "join", "join('x' * 99999)", "last", "length", "list", "lower", "map('upper')",
    "map('attr', 'format')", "map('attr', '__class__')", "map(attribute='role')", "map(attribute='__class__')",
    "map(attribute='role.x.y', default=1)", "map('map', 'list')", "map('nosuch')", "map('center', 10**9)",
    "map('replace', 'a', 'b' * 99999)", "max", "max(attribute='role')", "min", "pprint", "random", "reject",
    "reject('eq', 1)", "rejectattr('role')", "replace('a', 'b' * 99999)", "replace('', 'x' * 99999)", "reverse",
    "round",
    "round(3)", "round(10**9)", "round(-10**9, 'floor')", "safe", "select", "select('string')", "select('attr')",
    "selectattr('role', 'equalto', 'user')", "selectattr('__class__.__mro__')", "slice(3)", "slice(10**9)", "slice(0)",
    "slice(2, 'x')", "sort", "sort(attribute='role')", "sort(reverse=true)", "string", "striptags", "sum",
    "sum(start=[])", "sum(attribute='x')", "title", "tojson", "tojson(indent=4)", "tojson(indent=10**9)",
    "tojson(separators=1)", "tojson(separators=('a' * 99999, 'b'))", "tojson(sort_keys=true)", "trim",
    "trim('a' * 9999)",
    "truncate", "truncate(0)", "truncate(10**9, true, 'x' * 999)", "unique", "unique(attribute='role')", "upper",
    "urlencode", "urlize", "urlize(10, target='x')", "wordcount", "wordwrap(1)", "wordwrap(0)",
    "wordwrap(1, true, 'b' * 9999)", "xmlattr", "nosuch", "weigh a value", "reverse | list",
)  # fmt: skip
_TESTS = (
    "defined", "string", "mapping", "iterable", "sequence", "number", "none", "even", "odd", "divisibleby(3)",
    "divisibleby(0)", "eq(1)", "lt('a')", "in(messages)", "in(range(10**5))", "sameas(x)", "callable", "escaped",
    "filter", "filter('attr')", "test", "lower", "upper", "nosuch", "boolean", "true",
)  # fmt: skip
_OPERATORS = ("+", "-", "*", "/", "//", "%", "**", "~", "==", "!=", "<", ">=", "in", "not in", "and", "or", "* 9999 *")


class Grammar:
    """Templates drawn with one generator.

    Args:
        rng: whose draws decide.
        budget: about how many pieces a template has.
    """

    def __init__(self, rng: random.Random, budget: int) -> None:
        self._rng = rng
        self._left = budget

    def template(self) -> str:
        """A whole template."""
        return "".join(self._statement(0) for _ in range(self._rng.randrange(1, 6)))

    def _spend(self, depth: int) -> bool:
        self._left -= 1
        return self._left > 0 and depth < 6

    def _body(self, depth: int) -> str:
        return "".join(self._statement(depth + 1) for _ in range(self._rng.choice((0, 1, 1, 2))))

    def _statement(self, depth: int) -> str:
        say, rng = self._expression, self._rng
        if not self._spend(depth):
            return rng.choice(("text", "\n", "{{ x }}", "{{ messages[0].content }}", "<|end|>"))
        makers: tuple[Callable[[], str], ...] = (
            lambda: f"{{{{ {say(depth)} }}}}",
            lambda: f"{{{{ {say(depth)} }}}}",
            lambda: f"{{% for {rng.choice(('m', 'a, b'))} in {say(depth)} %}}{self._body(depth)}{{% endfor %}}",
            lambda: f"{{% for x in range(99999) %}}{self._body(depth)}{{% endfor %}}",
            lambda: f"{{% for x in {say(depth)} if {say(depth)} %}}{self._body(depth)}{{% else %}}{{% endfor %}}",
            lambda: f"{{% for x in {say(depth)} recursive %}}{{{{ loop({say(depth)}) }}}}{{% endfor %}}",
            lambda: f"{{% if {say(depth)} %}}{self._body(depth)}{{% else %}}{self._body(depth)}{{% endif %}}",
            lambda: f"{{% set {rng.choice(('x', 'y', 'messages', 'a, b'))} = {say(depth)} %}}",
            lambda: f"{{% set ns = namespace(a={say(depth)}) %}}{{% set ns.a = {say(depth)} %}}",
            lambda: (f"{{% set ns = namespace(a={say(depth)}) %}}{{% for i in range(60) %}}"
                     f"{{% set ns.a = ns.a {rng.choice(_OPERATORS)} ns.a %}}{{% endfor %}}"),
            lambda: f"{{% set ns = namespace(a=1) %}}{{% for i in range(99) %}}{{% set ns.a = [ns.a, {say(depth)}] %}}"
                    f"{{% endfor %}}{{{{ ns.a }}}}",
            lambda: f"{{% set y %}}{self._body(depth)}{{% endset %}}{{{{ y }}}}",
            lambda: f"{{% macro f(m=1) %}}{self._body(depth)}{{% endmacro %}}{{{{ f({say(depth)}) }}}}",
            lambda: "{% macro m(f) %}{{ f(f) }}{{ m(m) }}{% endmacro %}{{ m(m) }}",
            lambda: f"{{% call f({say(depth)}) %}}{self._body(depth)}{{% endcall %}}",
            lambda: f"{{% filter {rng.choice(_FILTERS)} %}}{self._body(depth)}{{% endfilter %}}",
            lambda: f"{{% block b %}}{self._body(depth)}{{{{ self.b() }}}}{{% endblock %}}",
            lambda: f"{{% with x = {say(depth)} %}}{self._body(depth)}{{% endwith %}}",
            lambda: f"{{% autoescape {say(depth)} %}}{self._body(depth)}{{% endautoescape %}}",
            lambda: f"{{% generation %}}{self._body(depth)}{{% endgeneration %}}",
            lambda: rng.choice((
                "{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{% extends messages %}", "{% debug %}",
                "{% from 'x' import y %}", "{% include x ignore missing %}", "{% break %}", "{% continue %}",
                "{% for %}", "{# ", "{{ ", "%}", "{% do x %}", "{% raw %}", "{% endfor %}", "\0", "{% set %}", "{{}}",
                "{{ raise_exception('no') }}", "{{ raise_exception(messages) }}", "{% trans %}x{% endtrans %}",
            )),
            lambda: "{% for m in messages %}{{ m.role }}: {{ m.content | trim }}\n{% endfor %}",
        )  # fmt: skip
        return rng.choice(makers)()

    def _expression(self, depth: int) -> str:
        say, rng = self._expression, self._rng
        leaf = rng.choice((_NAMES, _NUMBERS, _STRINGS, _OTHERS, _OTHERS))
        if not self._spend(depth):
            return rng.choice(leaf)
        depth += 1
        makers: tuple[Callable[[], str], ...] = (
            lambda: rng.choice(leaf),
            lambda: rng.choice(leaf),
            lambda: f"({say(depth)}).{rng.choice(_ATTRIBUTES)}",
            lambda: f"({say(depth)}).{rng.choice(_ATTRIBUTES)}({say(depth)})",
            lambda: f"({say(depth)}).{rng.choice(_ATTRIBUTES)}({say(depth)}, {say(depth)})",
            lambda: f"({say(depth)})['{rng.choice(_ATTRIBUTES)}']",
            lambda: f"({say(depth)})[{say(depth)}]",
            lambda: (
                f"({say(depth)})[{rng.choice(_NUMBERS)}:{rng.choice(_NUMBERS)}:{rng.choice(('1', '-1', '0', '2'))}]"
            ),
            lambda: f"({say(depth)} | {rng.choice(_FILTERS)})",
            lambda: f"({say(depth)} | {rng.choice(_FILTERS)} | {rng.choice(_FILTERS)})",
            lambda: f"({say(depth)} | {rng.choice(_FILTERS).split('(')[0]}({say(depth)}))",
            lambda: f"({say(depth)} {rng.choice(_OPERATORS)} {say(depth)})",
            lambda: f"({say(depth)} {rng.choice(_OPERATORS)} {say(depth)})",
            lambda: f"({say(depth)} is {rng.choice(_TESTS)})",
            lambda: f"({say(depth)} if {say(depth)} else {say(depth)})",
            lambda: f"{rng.choice(_NAMES)}({say(depth)})",
            lambda: f"{rng.choice(_NAMES)}(*{say(depth)}, **{say(depth)})",
            lambda: f"[{say(depth)}, {say(depth)}]",
            lambda: f"{{{say(depth)}: {say(depth)}}}",
            lambda: f"(-{say(depth)})",
            lambda: f"({rng.choice(_STRINGS)} % {say(depth)})",
            lambda: f"{rng.choice(_STRINGS)}.format({say(depth)}, x={say(depth)})",
        )
        return rng.choice(makers)()


def _spoiled(rng: random.Random, source: str) -> str:
    """Characters changed, left out or doubled, or a piece of it very often."""
    way, place = rng.randrange(5), rng.randrange(len(source) + 1)
    if way == 0:
        return source[:place] + rng.choice("{}%()[]'\"\\|.\0\n~*,:") + source[place:]
    if way == 1:
        return source[:place] + source[place + rng.randrange(1, 9) :]
    if way == 2:
        return source * rng.choice((2, 9, 90, 3000))
    piece = rng.choice(("(", "[", "{% if 1 %}", "{{ 1 }}", "{% for a in [1] %}", "-", "not ", "{# #}", "1 + ", "x."))
    piece = piece if way == 3 else rng.choice(("{% if 0 %}{% elif 0 %}", "{{ x }}", "{% set x = [x] %}"))
    return source[:place] + piece * rng.choice((3, 40, 400, 4000)) + source[place:]


def hostile_template(rng: random.Random) -> str:
    """A template."""
    source = Grammar(rng, rng.choice((2, 6, 15, 40))).template()
    if rng.random() < 0.6:  # every message is written, so that the chat is read
        source += "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    return _spoiled(rng, source) if rng.random() < 0.15 else source
