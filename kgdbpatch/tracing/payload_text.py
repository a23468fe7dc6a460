"""Write the whole C file of a probe: what the language needs, the maps, the probe's function."""

from __future__ import annotations

from importlib.resources import files

from kgdbpatch.tracing.c_text import Payload
from kgdbpatch.tracing.map_text import map_text
from kgdbpatch.tracing.names import Facts
from kgdbpatch.tracing.plan import Gathered

__all__ = ["payload_text"]

_NOWHERE_WORDS = 2048
_CALLERS = {
    "exit": "(kgt_exit->caller)",
    "site": "(kgt_regs->site)",
    "entry": "(kgt_regs->caller)",
    "link": "kgt_a7",
    "none": "0",
}
_SITES = {"exit": "(kgt_exit->function)", "registers": "(kgt_regs->site)", "given": "kgt_a6", "none": "0"}
_STACKS = {
    "exit": "kgt_exit->function, kgt_exit->caller, kgt_exit->sp, 0",
    "registers": "kgt_regs->site, kgt_regs->caller, kgt_regs->r1, KGT_FRAMED",
    "plain": "KGT_SITE, kgt_a7, **(kgt_word **)__builtin_frame_address(0), 0",
}


def payload_text(payload: Payload, gathered: Gathered, facts: Facts, prefix: str, slots: int) -> str:
    """Return the whole C of a probe; with the macro KGT_OWNER it brings the maps and the ring along."""
    most = max((event.words for event in gathered.events), default=0)
    argument = {
        "plain": "kgt_a##number",
        "registers": "(kgt_regs->gpr[3 + number])",
        "exit": "(kgt_exit->argument[number])",
    }[payload.form]
    lines = ["#include <kgdbpatch.h>"]
    if payload.typed:
        lines.append("#include <kgdbpatch/types.h>")
    else:
        lines.append("typedef unsigned char u8, uint8_t; typedef unsigned short u16, uint16_t;")
        lines.append("typedef unsigned int u32, uint32_t; typedef unsigned long long u64, uint64_t;")
        lines.append("typedef signed char s8, int8_t; typedef short s16, int16_t; typedef int s32, int32_t;")
        lines.append("typedef long long s64, int64_t; typedef __SIZE_TYPE__ size_t; typedef _Bool bool;")
    lines += [f"extern {mention} kgt_mention_{number};" for number, mention in enumerate(payload.mentions)]
    values = {
        "KGT_CPUS": facts.cpus,
        "KGT_WORDS": max(most, 1),
        "KGT_SLOTS": slots,
        "KGT_LOW": f"{facts.low}ul",
        "KGT_HIGH": f"{facts.high}ul",
        "KGT_NOWHERE_WORDS": _NOWHERE_WORDS,
        "KGT_RING": f"{prefix}_ring",
        "KGT_OVER": f"{prefix}_over",
        "KGT_LOCK": f"{prefix}_lock",
        "KGT_NOWHERE": f"{prefix}_nowhere",
        "KGT_CALLER": _CALLERS[payload.caller],
        "KGT_FUNC": "KGT_SITE",
        "KGT_SITE": _SITES.get(payload.site, payload.site),
        **({"KGT_NANOSECONDS": f"{facts.nanoseconds}ull"} if facts.nanoseconds else {}),
    }
    lines += [f"#define {name} {value}" for name, value in values.items()]
    lines.append(f"#define KGT_ARG(number) {argument}")
    if payload.stacked:
        walk = facts.stack.macros() | {"KGT_FRAMED": int(payload.framed)}
        lines += [f"#define {name} {value}" for name, value in walk.items()]
        lines.append(f"#define KGT_STACK(to, frames) kgt_stack(to, frames, {_STACKS[payload.form]})")
    lines.append(files("kgdbpatch.tracing").joinpath("prelude.c").read_text())
    lines += [f"extern char {name}[];" for name in payload.externs]
    for index, plan in enumerate(gathered.maps.values()):
        lines.append(map_text(plan, index, f"{prefix}_map_{index}", facts.cpus))
    return "\n".join([*lines, payload.body, ""])
