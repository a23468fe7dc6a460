"""Code as rows: words decoded, targets named, data told; and which words somebody who names a place means."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from kgdbpatch.errors import KgdbPatchError, Misuse
from kgdbpatch.isa.decode import Instruction, decode

if TYPE_CHECKING:
    from kgdbpatch.image import Function
    from kgdbpatch.patch.site_checker import SiteChecker

__all__ = ["CodeLine", "chosen", "decoded", "reasons"]

_FEW = 16  # instructions that are shown where nobody says how many, in no function
_MOST = 1 << 20  # instructions at a time
_DOUBT = "may be data"


@dataclass(frozen=True, slots=True)
class CodeLine:
    """A word of code as it is shown.

    ``target`` is where a direct branch leads, with its symbol; ``kind`` is ``code`` or ``data``; ``note`` is
    what is to be told besides, ``patches`` are the ids of those whose site it is. Of a patch's own code
    ``patch`` is its id, ``part`` what of it: ``springboard``, ``saves``, ``payload``, ``restores``,
    ``displaced``, ``code``.
    """

    address: int
    symbol: str
    word: int
    text: str
    target: int | None
    target_symbol: str | None
    kind: str = "code"
    note: str | None = None
    patches: tuple[int, ...] = ()
    patch: int | None = None
    part: str | None = None


def chosen(
    text: str,
    count: int | None,
    resolve: Callable[[str], int],
    around: Callable[[int], Function | None],
) -> tuple[int, int]:
    """Return (start, end) of what is meant: ``func``, ``func+0x10``, ``0x…``, ``0x…..0x…``; or `Misuse`.

    A function without a ``count`` is meant to its end, other places with the next few instructions.
    """
    first, dots, last = text.partition("..")
    start = resolve(first)
    if dots:
        if count is not None:
            raise Misuse(f"'{text}' says itself how many instructions are meant: leave N away")
        end = resolve(last)
        if end <= start:
            raise Misuse(f"'{text}': the end lies before the begin, or is it")
    elif count is not None:
        end = start + 4 * count
    else:
        function = around(start)
        end = function.end if function is not None else start + 4 * _FEW
    if start % 4:
        raise Misuse(f"0x{start:08x} is no multiple of 4: the instruction there begins at 0x{start & ~3:08x}")
    if count is not None and count < 1:
        raise Misuse("at least one instruction is to be given")
    end = start + -(-(end - start) // 4) * 4
    if end - start > 4 * _MOST:
        raise Misuse(f"{(end - start) // 4} instructions are more than {_MOST}: name a smaller range")
    if end > 1 << 32:
        raise Misuse(f"{(end - start) // 4} instructions from 0x{start:08x} on go beyond the address space")
    return start, end


def decoded(
    start: int,
    words: Sequence[int],
    model: str,
    name: Callable[[int], str],
    *,
    patch: int | None = None,
    part: str | None = None,
) -> Iterator[CodeLine]:
    """Yield words as lines; ``name`` names addresses."""
    for index, word in enumerate(words):
        instruction = decode(word, start + 4 * index, model)
        target = instruction.target
        text = instruction.written_for(model)
        shown = text.startswith(".long")
        yield CodeLine(
            instruction.address,
            name(instruction.address),
            word,
            text,
            target,
            None if target is None else name(target),
            "data" if shown else "code",
            patch=patch,
            part=part,
        )


def reasons(checker: SiteChecker, lines: Sequence[CodeLine], model: str) -> dict[int, str]:
    """Return by address why words that look like code are data, as far as the analysis of all code knows."""
    found = {}
    for line in lines:
        why = _why(checker, decode(line.word, line.address, model), line.symbol)
        if why is not None:
            found[line.address] = why
    return found


def _why(checker: SiteChecker, instruction: Instruction, symbol: str) -> str | None:
    try:
        refused = next(iter(checker.no_code(instruction)), None)
    except KgdbPatchError:  # what is not part of any function, or not analysed
        return None
    told = None if refused is None else str(refused).removeprefix(f"{symbol} ")
    if told is None or told.startswith((_DOUBT, "holds ")):
        return None
    return told.removeprefix("is ").partition(":")[0]
