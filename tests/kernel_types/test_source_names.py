"""What a preprocessed source names of the kernel, and what it says itself."""

from __future__ import annotations

import pytest

from kgdbpatch.types.source_names import source_names


@pytest.mark.parametrize(
    ("text", "tags", "called"),
    [
        ("struct sock *f(struct sk_buff *skb) { return skb->sk; }", ["struct sock", "struct sk_buff"], []),
        ("struct mine { struct sock *sk; }; struct mine m;", ["struct sock"], []),
        ("enum e { A = sizeof(union u) };", ["union u"], []),
        ("struct { int a; } x; int f(void) { return g(h(1)) + x.a; }", [], ["g", "h"]),
        ("int g(int); int f(void) { return g(1) + k(2); }", [], ["k"]),
        ("static int g(int a) { return a; } int f(void) { return g(1); }", [], []),
        ('const char *f(void) { return "struct sock g(1)"; }', [], []),
        ("char f(void) { return '\"'; } struct late l;", ["struct late"], []),
        ("void f(void) { if (a) while (b) for (;;) c(); }", [], ["c"]),
        ("", [], []),
        ("}}} ) ( {{", [], []),
    ],
)
def test_tags_and_functions(text: str, tags: list[str], called: list[str]) -> None:
    found = source_names(text)
    assert (list(found.tags), list(found.called)) == (tags, called)


def test_words_that_may_be_types() -> None:
    found = source_names("typedef unsigned u8, *pointer; typedef int (*call)(u16); u32 f(u8 a) { call c; }")
    assert {"u32"} <= {*found.words}
    assert not {"u8", "pointer", "call"} & {*found.words}
    assert "u16" in {*found.words, *source_names("u16 x;").words}
