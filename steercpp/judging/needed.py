"""Which statements of a module a function needs; read this for what of an answer's program is left out, and why.

A model shows how its function is used: it asks for input, prints results, asserts. Such lines may fail, wait or never
end where nobody sits, and the test does not need them. Kept are, of the module's own statements:

    definitions and imports
    what binds or changes a needed name: assignments, loops, `try`, `if`, `with`, `SQUARES.append(1)`, `total.memo = {}`
    calls of a function of the answer that changes a needed name, and that the needed function does not call itself
    settings of a module: `sys.setrecursionlimit(10_000)`, `random.seed(0)`
    constants: `MOD = 10 ** 9 + 7`

Needed are the function's name, what it and the functions that it reaches read, and what kept statements read. No
assertion is needed. What reflection alone can tell (`globals()`, `exec`) is kept.
"""

from __future__ import annotations

import ast
import builtins
import symtable
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
_REFLECTION = frozenset({"exec", "globals", "setattr", "vars", "__import__"})
_BUILTINS = frozenset(dir(builtins))
_LOOKING = _BUILTINS - {"next", "setattr", "delattr", "exec", "eval"}  # they change no argument
_LEAVING = frozenset({"exit", "_exit", "quit", "abort", "kill", "main", "testmod", "sleep", "input"})
MOST_STATEMENTS = 500
_GROWING = (ast.Pow, ast.Mult, ast.LShift)


@dataclass(frozen=True)
class Statement:
    """One of a module's own statements, and the names that it has to do with."""

    node: ast.stmt

    @cached_property
    def _top(self) -> symtable.SymbolTable:
        return symtable.symtable(ast.unparse(ast.Module([self.node], [])), "answer", "exec")

    @cached_property
    def _tables(self) -> tuple[symtable.SymbolTable, ...]:
        return tuple(_with_inner(self._top))

    @property
    def is_definition(self) -> bool:
        """Whether it defines a function or class, or imports."""
        return isinstance(self.node, _DEFINITIONS)

    @property
    def is_import(self) -> bool:
        """Whether it imports."""
        return isinstance(self.node, ast.Import | ast.ImportFrom)

    @cached_property
    def binds(self) -> frozenset[str]:
        """Names of the module that it binds when it runs."""
        return frozenset(symbol.get_name() for symbol in self._top.get_symbols() if _is_bound(symbol))

    @cached_property
    def rebinds(self) -> frozenset[str]:
        """Names of the module that functions in it bind when they are called."""
        inner = (symbol for table in self._tables[1:] for symbol in table.get_symbols())
        return frozenset(symbol.get_name() for symbol in inner if symbol.is_declared_global() and _is_bound(symbol))

    @cached_property
    def reads(self) -> frozenset[str]:
        """All names of the module that it reads, also when its functions are called."""
        return self._read_in(self._tables)

    @cached_property
    def reads_at_once(self) -> frozenset[str]:
        """Those that it reads when it runs: of a function its decorators and defaults."""
        tables = self._tables
        return self._read_in([t for t in tables if t.get_type() != "function"] if self.is_definition else tables)

    def _read_in(self, tables: Sequence[symtable.SymbolTable]) -> frozenset[str]:
        return frozenset(
            symbol.get_name()
            for table in tables
            for symbol in table.get_symbols()
            if symbol.is_referenced() and (table is self._top or symbol.is_global())
        )

    @cached_property
    def _changes(self) -> tuple[tuple[str, str], ...]:
        return tuple(_changed(self.node))

    def changes(self, *, uncounted: frozenset[str] | set[str] = frozenset()) -> frozenset[str]:
        """Names of the module whose objects it may change: x of x.append(), x[0] = 1, x.a = 1 and f(x).

        Args:
            uncounted: functions that are taken to change no argument.
        """
        mine = self.reads | self.binds
        return frozenset(name for name, function in self._changes if name in mine and function not in uncounted)

    @cached_property
    def attributes(self) -> frozenset[str]:
        """Names of which it sets attributes, functions among them."""
        parts = (part for part in ast.walk(self.node) if isinstance(part, ast.Attribute))
        return frozenset(_root(part) for part in parts if isinstance(part.ctx, ast.Store | ast.Del))

    @cached_property
    def is_constant(self) -> bool:
        """Whether it names values that are written out, so that nothing in it can fail or take long."""
        if not isinstance(self.node, ast.Assign | ast.AnnAssign) or self.node.value is None:
            return False
        targets = self.node.targets if isinstance(self.node, ast.Assign) else [self.node.target]
        parts = list(ast.walk(self.node.value))
        plain = (
            ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator,
            ast.Load,
        )  # fmt: skip
        numbers = [part.value for part in parts if isinstance(part, ast.Constant)]
        growing = sum(isinstance(part, _GROWING) for part in parts)
        return (
            all(isinstance(target, ast.Name) for target in targets)
            and all(isinstance(part, plain) for part in parts)
            and growing <= 1
            and not (growing and any(isinstance(n, int | float) and abs(n) > 1 << 16 for n in numbers))
        )

    def other_names(self, names: set[str]) -> frozenset[str]:
        """Other names that it gives to the object of one of these or its method: x = y = [], add = x.append."""
        if not isinstance(self.node, ast.Assign):
            return frozenset()
        value = self.node.value
        shared = isinstance(value, ast.Name | ast.Attribute) and _root(value) in names
        return self.binds if shared or (len(self.node.targets) > 1 and self.binds & names) else frozenset()

    @cached_property
    def called(self) -> frozenset[str]:
        """Names that it calls."""
        calls = (part.func for part in ast.walk(self.node) if isinstance(part, ast.Call))
        return frozenset(function.id for function in calls if isinstance(function, ast.Name))

    @cached_property
    def setting_of(self) -> str:
        """The name whose function it calls for its effect alone, as sys in sys.setrecursionlimit(9); "" for none."""
        if not isinstance(self.node, ast.Expr) or not isinstance(self.node.value, ast.Call):
            return ""
        called = self.node.value.func
        name = called.attr if isinstance(called, ast.Attribute) else _root(called)
        return "" if name in _LEAVING else _root(called)


def needed(statements: Sequence[ast.stmt], name: str) -> list[ast.stmt]:
    """The statements that a function needs, in their order.

    All of them where they are nested too deeply to tell, or more than `MOST_STATEMENTS`: each is compared with each.

    Args:
        statements: of a module.
        name: of the function.
    """
    if len(statements) > MOST_STATEMENTS:
        return list(statements)
    try:
        return _Needed([Statement(node) for node in statements], name).nodes()
    except RecursionError:
        return list(statements)


class _Needed:
    """The search for what a function needs: names and statements, until neither grows."""

    def __init__(self, statements: Sequence[Statement], name: str) -> None:
        self.statements = statements
        self.definitions = [statement for statement in statements if statement.is_definition]
        self.imported = _joined(statement.binds for statement in self.definitions if statement.is_import)
        self.defined = _joined(statement.binds for statement in self.definitions if not statement.is_import)
        self.constants = _joined(statement.binds for statement in statements if statement.is_constant)
        self.names = {name}
        self.other_names: frozenset[str] = frozenset()

    def nodes(self) -> list[ast.stmt]:
        kept: set[int] = set()
        while True:
            size = len(self.names), len(kept)
            for place, statement in enumerate(self.statements):
                self.other_names |= statement.other_names(self.names - self.defined - self.imported)
                self.names |= self.other_names
                if place in kept or self._is_needed(statement):
                    kept.add(place)
                    self.names |= statement.reads if statement.binds & self.names else statement.reads_at_once
            if (len(self.names), len(kept)) == size:
                return [statement.node for place, statement in enumerate(self.statements) if place in kept]

    @property
    def _reached(self) -> frozenset[str]:
        """Functions and classes that the needed function comes to."""
        return _joined(statement.binds for statement in self.definitions if statement.binds & self.names)

    def _is_needed(self, statement: Statement) -> bool:
        if statement.is_definition or statement.is_constant:
            return True
        if isinstance(statement.node, ast.Assert):
            return False
        if statement.binds & self.names or statement.attributes & self.names or _REFLECTION & statement.reads:
            return True
        reached = self._reached
        data = self.names - self.defined - self.imported
        if (statement.changes(uncounted=_LOOKING | reached) & data) or statement.called & self.other_names:
            return True
        read = statement.reads - self.imported - _BUILTINS - self.constants
        if statement.setting_of in self.imported and read <= data:
            return True
        helpers = self._helpers(statement.reads & self.defined - reached, reached)
        sets_up = any(
            other.rebinds & self.names or other.changes(uncounted=_LOOKING | reached) & data
            for other in self.definitions
            if other.binds & helpers
        )
        if sets_up:
            self.names |= statement.binds  # what it makes may do the work later, as a thread does
        return sets_up

    def _helpers(self, called: frozenset[str], reached: frozenset[str]) -> frozenset[str]:
        """Functions by their names, and those that they read, but for what the needed function reaches."""
        while True:
            read = _joined(other.reads for other in self.definitions if other.binds & called)
            if not (more := (read & self.defined) - called - reached):
                return called
            called |= more


def _joined(sets: Iterator[frozenset[str]]) -> frozenset[str]:
    return frozenset().union(*sets)


def _with_inner(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _with_inner(child)


def _is_bound(symbol: symtable.Symbol) -> bool:
    return symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()


def _changed(node: ast.AST) -> Iterator[tuple[str, str]]:
    """Names whose objects may change, each with the function that it is handed to, "" for none."""
    for part in ast.walk(node):
        if isinstance(part, ast.Attribute | ast.Subscript) and isinstance(part.ctx, ast.Store | ast.Del):
            yield _root(part), ""
        elif isinstance(part, ast.Call):
            if isinstance(part.func, ast.Attribute):
                yield _root(part.func), ""
            function = part.func.id if isinstance(part.func, ast.Name) else ""
            for argument in (*part.args, *(keyword.value for keyword in part.keywords)):
                value = argument.value if isinstance(argument, ast.Starred) else argument
                if isinstance(value, ast.Name):
                    yield value.id, function


def _root(node: ast.AST) -> str:
    """The name that an attribute, an item or a call is of; "" where there is none."""
    while isinstance(node, ast.Attribute | ast.Subscript | ast.Call):
        node = node.func if isinstance(node, ast.Call) else node.value
    return node.id if isinstance(node, ast.Name) else ""
