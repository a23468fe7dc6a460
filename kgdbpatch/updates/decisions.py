"""What no program may decide about an update: found in the difference of two objects, told in words."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Collection, Iterator

from kgdbpatch.updates.btf import Types, changed_prototypes, changed_structures
from kgdbpatch.updates.elf_object import CODE
from kgdbpatch.updates.manifest import Decision
from kgdbpatch.updates.object_diff import Difference
from kgdbpatch.updates.pieces import Kind, Piece, Pieces, Within, is_special

__all__ = [
    "CALLED_FIRST",
    "CALLED_LAST",
    "changed_types",
    "data_decision",
    "decide",
    "is_call_table",
    "is_init",
    "is_special_code",
]

_TABLES = {
    "__jump_table": ("jump-label", "branches of its code stay as compiled, whatever their static keys are"),
    ".static_call_sites": ("static-call", "static calls of its code stay as compiled"),
}
_FIXUPS = re.compile(r"__\w*ftr_fixup|__\w*_fixup|\.alt\w*")
_FIXUP = ("feature-fixup", "its code stays as compiled, not as the kernel makes it for this CPU")
_QUIET = re.compile(r"\.discard|\.comment|\.note|__mcount_loc|__patchable_function_entries|\.modinfo|\.fixup")
_INIT = re.compile(r"\.(init|exit)\.|\.ref\.text")
CALLED_FIRST = re.compile(r"\.((preinit_array|init_array|ctors)(\..*)?|(initcall\w+|con_initcall)\.init)")
CALLED_LAST = re.compile(r"\.((fini_array|dtors)(\..*)?|exitcall\.exit)")
_PLAIN_CODE = re.compile(r"\.text($|\.)")


def is_init(piece: Piece) -> bool:
    """Tell whether a piece is there while the kernel starts, or ends, only."""
    return bool(_INIT.match(piece.section.name))


def is_call_table(name: str) -> bool:
    """Tell whether a section lists functions to be called first or last: what is new of it goes along."""
    return CALLED_FIRST.fullmatch(name) is not None or CALLED_LAST.fullmatch(name) is not None


def is_special_code(piece: Piece) -> bool:
    """Tell whether code is in a section of its own for a reason (`.noinstr.text`, `.kprobes.text`)."""
    return (
        bool(piece.section.flags & CODE) and not _PLAIN_CODE.match(piece.section.name) and not is_init(piece)
    )


def decide(difference: Difference, included: Collection[int], file: str) -> Iterator[Decision]:
    """Yield what a person has to decide about a difference, of which the functions ``included`` go along."""
    after = difference.after
    for number in (*difference.changed, *difference.new):
        piece = after.all[number]
        known = number in difference.pairs
        if piece.kind is Kind.FUNCTION and is_init(piece) and known:
            yield Decision(
                f"init:{piece.name}",
                "init-code",
                f"{piece.name} ({file}) runs while the kernel starts: the kernel has done so already, "
                "nothing of the change to it goes along",
            )
        elif is_call_table(piece.section.name):
            continue
        elif is_special(piece.section) and number not in included and not _QUIET.match(piece.section.name):
            what = "changed" if known else "new"
            yield Decision(
                f"section:{piece.name}",
                "special-section",
                f"{piece.name} ({file}) in {piece.section.name} is {what}: the kernel has read that section "
                "when it started, the change does not go along",
            )
        elif number in included and is_special_code(piece):
            yield Decision(
                f"text:{piece.name}",
                "special-text",
                f"{piece.name} ({file}) is in {piece.section.name} for a reason, its replacement will not be",
            )
        elif number in included and piece.section.name.startswith(".data..percpu"):
            yield Decision(
                f"percpu:{piece.name}",
                "per-cpu",
                f"{piece.name} ({file}) is a new variable of each CPU: there is one for all of them",
            )
    yield from _gone(difference, file)
    yield from _tables(after, included, file)


def _gone(difference: Difference, file: str) -> Iterator[Decision]:
    before = difference.before
    for number in difference.gone:
        piece = before.all[number]
        if piece.kind is not Kind.FUNCTION or is_init(piece) or ".cold" in piece.name:
            if is_special(piece.section) and not _QUIET.match(piece.section.name):
                yield Decision(
                    f"section:{piece.name}",
                    "special-section",
                    f"{piece.name} ({file}) in {piece.section.name} is gone: the kernel has read that "
                    "section when it started, what was made of it stays",
                )
            continue
        tables = sorted(
            before.all[user].name
            for user in before.users.get(number, ())
            if before.all[user].kind in (Kind.DATA, Kind.TABLE)
            and before.all[user].section.name != "__bug_table"
        )
        held = f"; named by {', '.join(tables[:4])}" if tables else ""
        seen = "only this file's code called it" if piece.local else "code of other files may call it"
        yield Decision(
            f"gone:{piece.name}",
            "gone-function",
            f"{piece.name} ({file}) is gone from the source and stays in the kernel; {seen}{held}",
        )


def _tables(after: Pieces, included: Collection[int], file: str) -> Iterator[Decision]:
    found: Counter[tuple[str, str]] = Counter()
    for piece in after.all:
        if piece.kind is not Kind.TABLE or _QUIET.match(piece.section.name):
            continue
        if piece.section.name not in _TABLES and not _FIXUPS.match(piece.section.name):
            continue
        for reference in piece.references:
            target = reference.target
            if not isinstance(target, Within) or target.piece not in included:
                continue
            if after.all[target.piece].kind is Kind.FUNCTION:
                found[after.all[target.piece].name, piece.section.name] += 1
    for (function, section), count in sorted(found.items()):
        kind, danger = _TABLES.get(section, _FIXUP)
        yield Decision(
            f"{kind}:{function}",
            kind,
            f"{function} ({file}) has {count} {'place' if count == 1 else 'places'} in {section}, "
            f"which the kernel does not look up for it: {danger}",
        )


def data_decision(old: Piece, new: Piece, table: bool, words: int, file: str) -> Decision:
    """Return what is to be decided about data that exists and whose initial content differs."""
    name, unit = new.name, "word" if words == 1 else "words"
    if old.size != new.size:
        text = (
            f"{name} ({file}) has {new.size} bytes where the kernel's has {old.size}: it cannot grow in place"
        )
        return Decision(f"data:{name}", "changed-size", f"{text}, the change does not go along")
    if table:
        text = f"{name} ({file}), a table of addresses, differs in {words} {unit}: decided, they are written"
        return Decision(f"data:{name}", "changed-table", text)
    text = (
        f"{name} ({file}) starts as other than the kernel's did in {words} {unit}: decided, they are written"
    )
    return Decision(f"data:{name}", "changed-value", f"{text} over what it is by now")


def changed_types(difference: Difference, before: Types, after: Types, file: str) -> Iterator[Decision]:
    """Yield what is to be decided about structures and prototypes that differ."""
    for name, what in changed_structures(before, after).items():
        yield Decision(
            f"structure:{name.replace(' ', '-')}",
            "changed-structure",
            f"{name} ({file}) changes from {what}: objects that exist, and code that is not replaced, "
            "have it as it was",
        )
    for name, (old, new) in changed_prototypes(before, after).items():
        piece = difference.after.by_name.get(name)
        if piece is None or piece.number not in difference.pairs:
            continue
        users = difference.after.users.get(piece.number, set())
        named = any(difference.after.all[user].kind in (Kind.DATA, Kind.TABLE) for user in users)
        if not piece.local or named:
            who = "named by data" if piece.local else "called by other files' code, too"
            yield Decision(
                f"signature:{name}",
                "changed-signature",
                f"{name} ({file}), {who}, changes from '{old}' to '{new}'",
            )
