"""Symbols and functions as arrays answer as lists of them would."""

from __future__ import annotations

import re
from bisect import bisect_right

from hypothesis import given
from hypothesis import strategies as st

from kgdbpatch.image import Function, Symbol
from kgdbpatch.image.symbols import FunctionTable, SymbolTable

_NAMES = st.one_of(
    st.text("ab_.", max_size=4),
    st.sampled_from(["", "f", "ff", "f\N{DEGREE SIGN}", "\ufffd", "\0", "\udc80"]),
)
_SYMBOLS = st.lists(
    st.builds(
        Symbol,
        _NAMES,
        st.integers(0, 40) | st.just(0xFFFF_FFFF),
        st.integers(0, 9),
        st.sampled_from(["", ".text", ".data"]),
        st.sampled_from(["function", "label", "object", "absolute"]),
        st.booleans(),
    ),
    max_size=12,
)
_FUNCTIONS = st.lists(
    st.builds(
        Function,
        _NAMES,
        st.integers(0, 12).map(lambda number: 4 * number),
        st.integers(1, 5).map(lambda number: 4 * number),
        st.lists(_NAMES, max_size=2).map(tuple),
        st.sampled_from([".text", ".init.text"]),
        st.booleans(),
    ),
    max_size=8,
).map(lambda functions: sorted(functions, key=lambda function: function.address))


@given(_SYMBOLS, _NAMES)
def test_symbols(symbols: list[Symbol], name: str) -> None:
    table = SymbolTable.of(symbols)
    again = SymbolTable(table.columns)
    assert list(table) == list(again) == symbols
    assert table == again == symbols
    assert [table[number] for number in range(-len(symbols), len(symbols))] == symbols * 2
    assert table[1:-1] == symbols[1:-1]
    assert table.names.all() == [symbol.name for symbol in symbols]
    for wanted in (name, *(symbol.name for symbol in symbols)):
        assert table.called(wanted) == [symbol for symbol in symbols if symbol.name == wanted]
        assert table.beginning(wanted) == [symbol for symbol in symbols if symbol.name.startswith(wanted)]
        last = {symbol.name: symbol for symbol in symbols if symbol.name == wanted}
        assert table.last([wanted]) == last


@given(_SYMBOLS, st.integers(0, 50))
def test_the_symbol_before(symbols: list[Symbol], address: int) -> None:
    named = sorted((symbol for symbol in symbols if symbol.section), key=lambda symbol: symbol.address)
    index = bisect_right([symbol.address for symbol in named], address) - 1
    assert SymbolTable.of(symbols).before(address) == (named[index] if index >= 0 else None)


@given(_FUNCTIONS)
def test_functions(functions: list[Function]) -> None:
    table = FunctionTable(FunctionTable.of(functions).columns)
    assert list(table) == functions
    assert table.spans() == [(function.address, function.size) for function in functions]
    assert set(table.sections) == {function.section for function in functions}
    for address in range(-1, 80):
        inside = [function for function in functions if address in function]
        assert table.around(address) == (inside[-1] if inside else None)  # the last to begin
    pattern = re.compile("f|a.*")
    fitting = [f for f in functions if any(map(pattern.fullmatch, (f.name, *f.aliases)))]
    assert table.named(pattern) == fitting
