"""A chat template's syntax: how much of it is compiled, and how the counting of steps is put into it.

Jinja has no hook for the turn of a loop, a comparison or a slice: these become filters of the environment whose names
no template can spell.
"""

from __future__ import annotations

from typing import Any

from jinja2 import nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.visitor import NodeTransformer

from steercpp.engine.template_budget import UNITS, TooMuchWorkError

LONGEST_SOURCE = 100_000  # characters; the longest template that llama.cpp ships has 17,000
_MOST_NODES = 10_000  # of a template's syntax; the largest that llama.cpp ships has 1,300, within each other 16
_DEEPEST = 100
_MOST_ELIFS = 200  # of one `if`; compiling takes the square of their time
# Filters whose names no template can spell.
WEIGH, COPY, STEP, CONCAT = "weigh a value", "copy a list", "take steps", "become one text"


def refuse_large_syntax(tree: nodes.Template) -> None:
    """Compiling takes the longer the more there is, and the deeper: of some kinds the square.

    Raises:
        TooMuchWorkError: it would take too long.
    """
    n_nodes, held = 0, [(tree, 0)]  # type: tuple[int, list[tuple[nodes.Node, int]]]
    while held:
        node, depth = held.pop()
        n_nodes += 1
        if n_nodes > _MOST_NODES or depth > _DEEPEST or len(getattr(node, "elif_", ())) > _MOST_ELIFS:
            raise TooMuchWorkError("it has too many parts, or too many within each other")
        held.extend((child, depth + 1) for child in node.iter_child_nodes())


def put_counting_into(tree: nodes.Template) -> None:
    """Have a template that was parsed take steps where Jinja offers no hook for it."""
    _Counting().visit(tree)


class _Counting(NodeTransformer):
    """Puts the counting into a template that was parsed: what Jinja offers no hook for."""

    def visit_For(self, node: nodes.For) -> nodes.Node:
        self.generic_visit(node)
        if node.test is not None:
            node.test = nodes.And(_step(1), node.test)
        return _counted_body(node)

    def visit_Macro(self, node: nodes.Macro) -> nodes.Node:
        self.generic_visit(node)
        return _counted_body(node)

    def visit_CallBlock(self, node: nodes.CallBlock) -> nodes.Node:
        self.generic_visit(node)
        return _counted_body(node)

    def visit_Block(self, node: nodes.Block) -> nodes.Node:
        self.generic_visit(node)
        return _counted_body(node)

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:
        self.generic_visit(node)
        return nodes.Filter(nodes.List(node.nodes), CONCAT, [], [], None, None, lineno=node.lineno)

    def visit_Compare(self, node: nodes.Compare) -> nodes.Node:
        self.generic_visit(node)
        node.expr = _weighed(node.expr)
        for operand in node.ops:
            operand.expr = _weighed(operand.expr)
        return node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:
        self.generic_visit(node)
        if isinstance(node.arg, nodes.Slice):
            node.node = nodes.Filter(node.node, COPY, [], [], None, None, lineno=node.lineno)
        return node

    def visit_Pair(self, node: nodes.Pair) -> nodes.Node:
        self.generic_visit(node)
        node.key = _weighed(node.key)
        return node


def _weighed(node: nodes.Expr) -> nodes.Expr:
    return nodes.Filter(node, WEIGH, [], [], None, None, lineno=node.lineno)


def _step(steps: int) -> nodes.Expr:
    return nodes.Filter(nodes.Const(steps), STEP, [], [], None, None)


def _counted_body(node: Any) -> nodes.Node:
    """The node, whose body takes steps each time that it is gone through: one, and those of its fixed texts."""
    n_chars = sum(len(text.data) for child in node.body for text in child.find_all(nodes.TemplateData))
    node.body.insert(0, nodes.ExprStmt(_step(1 + n_chars // UNITS), lineno=node.lineno))
    copied: nodes.Node = node
    return copied


class GenerationTag(Extension):
    """`{% generation %}` of transformers, which marks what a model has written; it writes nothing itself."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        """What stands between the tags."""
        parser.stream.skip(1)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)
