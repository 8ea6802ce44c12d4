"""What is said of a chat template that does what others do not."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_model import Shape, write_tiny_model

from steercpp.engine.engine import Engine
from steercpp.engine.template_remarks import template_remarks

SHAPE = Shape(n_layer=2, n_embd=64, n_ff=64, n_head=4, n_head_kv=2)
LOOP = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"


def remarks(tmp_path: Path, template: str | None) -> tuple[str, ...]:
    path = write_tiny_model(tmp_path / "model.gguf", chat_template=template, shape=SHAPE)
    with Engine(path, threads=1) as engine:
        return template_remarks(engine.vocabulary)


@pytest.mark.parametrize("template", [None, LOOP, LOOP + "{% if add_generation_prompt %}assistant: {% endif %}"])
def test_of_an_ordinary_template_there_is_nothing_to_say(tmp_path: Path, template: str | None) -> None:
    assert remarks(tmp_path, template) == ()


@pytest.mark.parametrize(
    ("template", "remark"),
    [
        (LOOP + "{% for i in range(9999) %}{% endfor %}", "it loops over range(9999), not over messages"),
        (LOOP + "{{ 'a' * 20000 }}", "it writes 20,0"),
        (LOOP + "{# " + "a" * 30_000 + " #}", "it has 30,0"),
        (LOOP + "{{ x.__class__ }}", "it looks for '__class__', an inside of Python's objects: an attempt to leave"),
        (LOOP + "{{ x['__globals__'] }}", "it looks for '__globals__'"),
        (LOOP + "{{ ('{0.__init__}' | attr('format'))(1) }}", "it takes attributes by the filter 'attr'"),
        (LOOP + "{{ '{0.__init__}'.format(1) }}", "it looks for '{0.__init__}'"),
        (LOOP + "{{ [''] | map('attr', 'upper') | list | length }}", "it takes attributes by the filter 'map'"),
        (LOOP + "{% if open %}{{ open('/etc/passwd') }}{% endif %}", "it calls 'open', which chat templates are not"),
        (LOOP + "{% include 'a' %}", "it reads another template (include), and there is none: it cannot be used"),
        (LOOP + "{% import 'a' as a %}", "it reads another template (import)"),
        (LOOP + "<|im_end|>", "it spells <|im_end|>: no tokens of this model, so they are read letter by letter"),
        (LOOP + "{{ strftime_now('%Y') }}", "the model's chat template receives the day"),
        (LOOP + "{{ 1 / 0 }}", "of a chat of user: the model's chat template cannot be used: division by zero"),
        (LOOP + "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
         "of a chat of user: the model's chat template was stopped: it works too long"),
        ("{{ bos_token }}", "of a chat of user: the model's chat template does not write the user's message"),
        ("{% for", "the model's chat template is broken: "),
    ],
)  # fmt: skip
def test_what_is_unusual_is_told(tmp_path: Path, template: str, remark: str) -> None:
    found = remarks(tmp_path, template)
    assert any(sentence.startswith(remark) for sentence in found), found
    assert not any("\n" in sentence for sentence in found)
