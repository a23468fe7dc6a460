"""What a preprocessed C source names without saying what it is: structures, types, functions."""

from __future__ import annotations

import re
from typing import NamedTuple

__all__ = ["SourceNames", "source_names"]

_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"|\'(?:\\.|[^\'\\])*\'|[A-Za-z_]\w*|[0-9][\w.]*|\S')
_WORD = re.compile(r"[A-Za-z_]\w*")
_KEYWORDS = frozenset(
    ("if", "while", "for", "switch", "return", "sizeof", "typeof", "__typeof__", "_Alignof", "__asm__", "asm")
)
_QUOTES = ('"', "'")
_TAGGED = ("struct", "union", "enum")


class SourceNames(NamedTuple):
    """Tags as ``struct sk_buff``, words that may be types, functions that are called; each by its first use.

    Left out is what the source defines itself: structures, typedefs, functions that it declares.
    """

    tags: tuple[str, ...]
    words: tuple[str, ...]
    called: tuple[str, ...]


def source_names(text: str) -> SourceNames:
    """Return what a source names; it is preprocessed, so there are neither comments nor macros.

    >>> source_names("u32 f(struct sock *sk) { return sk_hash(sk); }").called
    ('sk_hash',)
    """
    tokens = [token for token in _TOKEN.findall(text) if token[0] not in _QUOTES]
    defined, declared, typedefs = set[str](), set[str](), set[str]()
    tags, words, called = dict[str, None](), dict[str, None](), dict[str, None]()
    depth, inner, before = 0, 0, ""
    typedef = False
    for index, token in enumerate(tokens):
        behind = tokens[index + 1] if index + 1 < len(tokens) else ""
        if token in "{}":
            depth += 1 if token == "{" else -1
        elif token in "()":
            inner += 1 if token == "(" else -1
        elif token == "typedef" and not depth:
            typedef = True
        elif token == ";" and not depth:
            typedef = False
        elif before in _TAGGED and _WORD.fullmatch(token):
            tag = f"{before} {token}"
            if behind == "{":
                defined.add(tag)
            else:
                tags[tag] = None
        elif _WORD.fullmatch(token):
            if typedef and not depth and behind in (";", ",", "[", ")", "("):
                typedefs.add(token)
            elif behind == "(":
                if token in _KEYWORDS:
                    pass
                elif depth:
                    called[token] = None
                elif not inner:
                    declared.add(token)
            else:
                words[token] = None
        before = token
    return SourceNames(
        tuple(tag for tag in tags if tag not in defined),
        tuple(word for word in words if word not in typedefs),
        tuple(name for name in called if name not in declared),
    )
