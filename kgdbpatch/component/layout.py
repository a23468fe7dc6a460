"""The shape of the arena: header, stub, call block, patch table, bodies (all big-endian).

Offsets are bytes from the arena's physical start. Everything a client needs to know about a
guest's patches is in here, so that any client can carry on where another one died.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import NamedTuple

import numpy as np

__all__ = [
    "ANCHOR",
    "ANCHOR_MAGIC",
    "BASELINE",
    "BASELINE_ENTRIES",
    "BASELINE_OFFSET",
    "BODY_ALIGNMENT",
    "CALL_ARGUMENTS_OFFSET",
    "CALL_ARGUMENTS_ROOM",
    "CALL_BLOCK",
    "CALL_OFFSET",
    "CHANGING",
    "COMMAND",
    "COMMANDS_OFFSET",
    "GATE_OFFSET",
    "HEADER",
    "HOOK_OFFSET",
    "JOURNAL",
    "JOURNAL_COUNT_OFFSET",
    "JOURNAL_ENTRIES",
    "JOURNAL_OFFSET",
    "KEPT",
    "KEPT_ENTRIES",
    "KEPT_OFFSET",
    "KERNEL_CALL",
    "KERNEL_CALL_CODE_OFFSET",
    "KERNEL_CALL_OFFSET",
    "LEAST_SIZE",
    "MAGIC",
    "MAX_COMMANDS",
    "MODULE",
    "MODULES",
    "MODULES_OFFSET",
    "NO_ENTRY",
    "PAGE",
    "QUICK",
    "RECORD",
    "SPRINGBOARD_OFFSET",
    "SPRINGBOARD_SIZE",
    "STATE_OFFSET",
    "STATE_ROOM",
    "STUB_OFFSET",
    "TABLE_OFFSET",
    "TRAP",
    "TRAPS_OFFSET",
    "TRAP_ENTRIES",
    "VERSION",
    "BlockEntries",
    "CallStatus",
    "Flag",
    "Flushed",
    "Linear",
    "Op",
    "State",
    "bodies_offset",
    "records",
]

MAGIC = b"kgdbpch\0"
VERSION = 18

HOOK_OFFSET = 0xE00  # registers that the hook of traps keeps where it cannot behind its code
STUB_OFFSET = 0x1000
SPRINGBOARD_OFFSET = 0x2000  # the page behind the springboard window
SPRINGBOARD_SIZE = 16  # lis, ori, mtctr, bctr; two such slots where registers must be kept
KEPT_OFFSET = 0x3200
KEPT_ENTRIES = 4
GATE_OFFSET = 0x3300  # where a called function returns to, if that may be in the arena
KERNEL_CALL_OFFSET = 0x3400
KERNEL_CALL_CODE_OFFSET = 0x3500
STATE_OFFSET = 0x3700
CALL_OFFSET = 0x4000
COMMANDS_OFFSET = CALL_OFFSET + 0x80
MAX_COMMANDS = 8000
JOURNAL_COUNT_OFFSET = CALL_OFFSET - 4  # how many entries the stub ever made
STATE_ROOM = JOURNAL_COUNT_OFFSET - STATE_OFFSET  # bytes: what `Cpu.state` may take
JOURNAL_OFFSET = CALL_OFFSET + 0x40000  # the last ones, of flushes: entry n stands at n modulo their number
JOURNAL_ENTRIES = 0x1000
CALL_ARGUMENTS_OFFSET = 0x4C000  # what the arguments of a call of the kernel's point to
CALL_ARGUMENTS_ROOM = 0x4000  # bytes
BASELINE_OFFSET = 0x50000
BASELINE_ENTRIES = 0x8000
TRAPS_OFFSET = 0x90000  # a multiple of 64 KiB
TRAP_ENTRIES = 0x4000  # the last one stays empty
MODULES_OFFSET = 0xB0000  # the modules that have patches: entry n is that of number n
MODULES = 255  # numbers, from 1 on: 0 is the kernel itself
# The hit counter of every QUICK-th record stands at a multiple of 64 KiB: `lis` alone makes its address.
TABLE_OFFSET = 0xC0000 - 44
QUICK = 0x10000 // 64
LEAST_SIZE = 0x20_0000  # bytes of an arena
BODY_ALIGNMENT = 16
_MOST_RECORDS = 0x40000
_PLENTY = 0x200_0000  # bytes of an arena, half of which the table may take
NO_ENTRY = 0xFFFF_FFFF  # in the header, see `BlockEntries`
PAGE = 4096  # bytes


def records(size: int) -> int:
    """Return how many records the table of an arena of ``size`` bytes has.

    They take half of 32 MiB, and a quarter of a smaller one, where bodies are what there is too little of.
    """
    return _MOST_RECORDS if size >= _PLENTY else size // (4 * 64)


def bodies_offset(size: int) -> int:
    """Return where bodies begin in an arena of ``size`` bytes."""
    return 0xC0000 + records(size) * 64


class Op(IntEnum):
    """The stub's commands (stub.S)."""

    FLUSH = 1
    SPLICE = 2
    STORE = 3
    STATE = 4
    BAT = 5
    MAP = 6
    DECREMENTER = 7
    APPLY = 8
    WITHDRAW = 9
    MARK = 10
    TLB = 11


class BlockEntries(NamedTuple):
    """The MMU's entries that map a block, as the CPU's family numbers them: for instructions, and for data.

    The former is None for a block of data, the latter where the kernel's own page tables map the data.
    """

    instruction: int | None
    data: int | None


class Linear(IntEnum):
    """Whether the kernel's own linear map shows the arena's data, and by what."""

    NO = 0
    PAGES = 1  # that a hashed page table may drop for an instant
    BLOCK = 2  # by a BAT of the kernel's, or the like: never missing


class Flushed(IntEnum):
    """The caches that a journal entry tells of, in the low bits of its start (stub.S)."""

    DATA = 1  # dcbf, sync
    CODE = 2  # icbi, sync


class CallStatus(IntEnum):
    """How far a call of one of the kernel's functions is (kernel_call.S)."""

    NONE = 0
    ASKED = 1  # the block is filled; the CPU may be on its way
    CALLED = 2
    RETURNED = 3  # the result is in the block, and nobody took it yet


class State(IntEnum):
    """What the table says of a record; the site's word says whether it is spliced."""

    FREE = 0
    PENDING = 1  # recorded, splice not confirmed
    ACTIVE = 2
    RETIRED = 3  # site restored, memory perhaps still referenced


class Flag(IntFlag):
    """What else the table says of a record; the bits from FORCED on tell of rules."""

    COUNTED = 1  # with REPLACES: it runs at exits, hits are entries, exits are returns
    USES = 0x400  # its payload was linked against names of other patches
    CALLED = 0x800  # others than its site call its functions: as for REPLACES
    NOTED = 0x1000  # behind its payload stands what is kept of its names (kgdbpatch.variables)
    REPLACES = 0x2000  # threads come back to its code by return addresses on their stacks
    FORCED = 2  # put in against the first of site.FORCEABLE; and so on
    ONWARD = 0x4000  # where the payload is over stands the jump to the older patch of the same site
    GUARDED = 0x8000  # a thread inside the payload passes the site without it (patch/once.py)


def _words(*names: str) -> list[tuple[str, str]]:
    return [(name, ">u4") for name in names]


HEADER = np.dtype(
    [
        ("magic", "V8"),
        *_words(
            "version",
            "physical",
            "size",
            "virtual",
            "code_entry",
            "data_entry",
            "springboards",
            "springboards_end",
        ),
        *_words("near", "near_size", "near_code_entry", "near_data_entry", "tails", "tails_end"),
        *_words("hook_vector", "hook_original", "hook_at", "hook_shift"),  # at: 0 without a hook
        *_words("hook_scratch", "hook_size"),
        *_words("linear"),  # `Linear`
        *_words("next_id", "slots", "baseline_count"),  # slots: of the table, up to the last ever used
        ("image_sha256", "V32"),
        *_words("crc"),  # of what stays as it is: the baseline, and the header but for `CHANGING`
    ]
)

_HOOK = tuple(f"hook_{name}" for name in ("vector", "original", "at", "shift", "scratch", "size"))
CHANGING = ("magic", *_HOOK, "next_id", "slots", "crc")

CALL_BLOCK = np.dtype(
    [
        *_words("status", "commands", "count", "pc", "msr", "cr", "ctr", "lr", "xer", "r0"),
        ("r3_r12", ">u4", 10),
    ]
)

KERNEL_CALL = np.dtype(  # of one of the kernel's own functions (kernel_call.S)
    [
        *_words("status", "function", "gate", "stack", "result", "result_low", "keeps", "answer"),
        *_words("pc", "msr", "cr", "lr", "ctr", "xer", "r0", "r1"),
        ("r3_r12", ">u4", 10),
        ("arguments", ">u4", 8),
        *_words("gate_at"),
    ]
)

ANCHOR_MAGIC = int.from_bytes(b"kgdb", "big")

ANCHOR = np.dtype(  # behind a gate: memory that the kernel has allocated for the arena (borrow.py)
    _words("magic", "status", "result", "result_low", "memory", "size", "scratch")
)

KEPT = np.dtype(_words("handle", "start", "end", "pad"))  # what the kernel keeps for us; start: 0 for none

COMMAND = np.dtype([*_words("op", "a", "b", "c", "result", "done"), ("pad", ">u4", 2)])

TRAP = np.dtype(_words("site", "body"))  # of the hash table (patch/trap.py)

JOURNAL = np.dtype(_words("start", "end"))  # physical; start: a cache line, with the caches flushed in it

MODULE = np.dtype([("name", "S64"), *_words("start", "end", "frames", "pad")])  # as `ModuleId` has it

BASELINE = np.dtype(_words("address", "word"))

RECORD = np.dtype(
    [
        *_words("state", "id", "site", "site_physical", "original", "splice"),
        *_words("body", "body_size", "constant_size", "springboard", "crc"),
        *_words("hits", "exits"),
        # words: within [start, end) of the body, hits - exits counts threads; with start 1 and end 0 the body
        # begins with what an update says of itself (patch/updated.py), and more patches of it may follow
        ("guard_start", ">u2"),
        ("guard_end", ">u2"),
        ("flags", ">u2"),  # Flag
        ("springboard_slots", "u1"),
        ("module", "u1"),  # the number of the module that the site is in
        ("glue_words", ">u2"),  # the body without a C blob; 0: the site is a word of data, written over
        ("tail", ">u2"),  # words: where the body's payload is over and the moved instruction begins,
    ]
)

assert HEADER.itemsize <= HOOK_OFFSET
assert COMMAND.itemsize == 32
assert RECORD.itemsize == 64
assert RECORD.fields is not None
assert (TABLE_OFFSET + RECORD.fields["hits"][1]) % 0x10000 == 0
assert records(_PLENTY) * RECORD.itemsize == _PLENTY // 2
assert bodies_offset(LEAST_SIZE) < LEAST_SIZE
assert BASELINE_OFFSET + BASELINE_ENTRIES * BASELINE.itemsize <= TRAPS_OFFSET
assert TRAPS_OFFSET % 0x10000 == 0
assert TRAPS_OFFSET + TRAP_ENTRIES * TRAP.itemsize <= MODULES_OFFSET
assert MODULES_OFFSET + (1 + MODULES) * MODULE.itemsize <= TABLE_OFFSET
assert KEPT_OFFSET + KEPT_ENTRIES * KEPT.itemsize <= GATE_OFFSET
assert GATE_OFFSET + 64 <= KERNEL_CALL_OFFSET  # kernel_calls.GATE_SIZE
assert KERNEL_CALL_OFFSET + KERNEL_CALL.itemsize <= KERNEL_CALL_CODE_OFFSET < STATE_OFFSET
assert COMMANDS_OFFSET + MAX_COMMANDS * COMMAND.itemsize <= JOURNAL_OFFSET
assert JOURNAL_OFFSET + JOURNAL_ENTRIES * JOURNAL.itemsize <= CALL_ARGUMENTS_OFFSET
assert CALL_ARGUMENTS_OFFSET + CALL_ARGUMENTS_ROOM <= BASELINE_OFFSET
