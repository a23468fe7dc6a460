"""The C that tells of calls within calls of one function: an event for each call that returns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

__all__ = ["WORDS", "GraphNames", "graph_text", "seen_text"]

WORDS = 10  # of an event: see `_TEXT`
SEEN, SEEN_MOST = "kgg_seen", 16  # functions that one call by pointer leads to

_SLOTS_OF_THREADS = 256

_TEXT = """#include <kgdbpatch.h>
%(types)s
typedef unsigned long kgg_word;
struct kgg_slot { kgg_word words[%(words)d]; };
struct kgg_ring { volatile kgg_word head; kgg_word unused; struct kgg_slot slots[%(slots)d]; };
%(extern)s struct kgg_ring %(ring)s[%(cpus)d];
/* how many calls of the function threads are in, by a few bits of a thread's address */
%(extern)s kgg_word %(inside)s[%(threads)d];
%(externs)s

#define KGG_NOW(high, low)                                                                              \\
    do {                                                                                                \\
        kgg_word kgg_again;                                                                             \\
        __asm__ volatile("0: mftbu %%0; mftb %%1; mftbu %%2; cmplw %%0,%%2; bne- 0b" \\
                         : "=&r"(high), "=&r"(low), "=&r"(kgg_again) : : "cr0");                        \\
    } while (0)
#define KGG_INSIDE(thread) &%(inside)s[((thread) * 0x9E3779B1ul) >> 24]

void kgp_begin(struct kgp_exit *call)
{
    kgg_word high, low, thread = (kgg_word)(%(thread)s), cpu = kgp_cpu();
    kgg_word *inside = KGG_INSIDE(thread);
    if (%(root)d)
        __atomic_fetch_add(inside, 1, __ATOMIC_RELAXED);
    call->kept[2] = *(volatile kgg_word *)inside;
    if (!call->kept[2])
        return;
    call->kept[3] = thread;
    call->kept[4] = %(ring)s[cpu].head;
    call->kept[5] = cpu;
    KGG_NOW(high, low);
    call->kept[0] = high;
    call->kept[1] = low;
}

void kgg_returned(struct kgp_exit *call)
{
    kgg_word high, low, msr, head;
    struct kgg_ring *ring;
    struct kgg_slot *slot;
    if (!call->kept[2])
        return;
    KGG_NOW(high, low);
    __asm__ volatile("mfmsr %%0" : "=r"(msr));
    __asm__ volatile("mtmsr %%0" : : "r"(msr & ~0x8000ul) : "memory");
    ring = &%(ring)s[kgp_cpu()];
    head = ring->head;
    slot = &ring->slots[head & (%(slots)d - 1)];
    slot->words[0] = call->function;
    slot->words[1] = call->caller;
    slot->words[2] = call->sp;
    slot->words[3] = call->kept[3]; /* the thread */
    slot->words[4] = call->kept[0];
    slot->words[5] = call->kept[1];
    slot->words[6] = high;
    slot->words[7] = low;
    slot->words[8] = call->kept[4]; /* how many events there were at the entry ... */
    slot->words[9] = call->kept[5] << 16 | (call->kept[2] & 0xFFFF); /* ... on that CPU */
    __asm__ volatile("" : : : "memory");
    ring->head = head + 1;
    __asm__ volatile("mtmsr %%0" : : "r"(msr) : "memory");
    if (%(root)d)
        __atomic_fetch_sub(KGG_INSIDE(call->kept[3]), 1, __ATOMIC_RELAXED);
}
"""

_SEEN_TEXT = """#include <kgdbpatch.h>
%(types)s
extern unsigned long %(inside)s[%(threads)d];
%(externs)s
static volatile unsigned long %(seen)s[%(most)d];

void kgg_calls(struct kgp_regs *regs)
{
    unsigned long thread = (unsigned long)(%(thread)s), at;
    if (!%(inside)s[(thread * 0x9E3779B1ul) >> 24])
        return;
    for (at = 0; at < %(most)d; at++) {
        if (%(seen)s[at] == regs->%(register)s)
            return;
        if (!%(seen)s[at]) {
            %(seen)s[at] = regs->%(register)s;
            return;
        }
    }
}
"""


class GraphNames(NamedTuple):
    """What the payloads of one graph have in common; ``thread`` is the C of who runs, None: not known."""

    prefix: str
    cpus: int
    slots: int
    thread: str | None
    externs: Sequence[str]
    typed: bool
    stack: int  # bytes of a kernel stack: where nothing tells the thread, its stack does

    @property
    def ring(self) -> str:
        """The variable with the rings."""
        return f"{self.prefix}_ring"

    def values(self, sp: str) -> dict[str, object]:
        """Return what is filled in."""
        return {
            "types": "#include <kgdbpatch/types.h>" if self.typed else "",
            "externs": "\n".join(f"extern char {name}[];" for name in self.externs),
            "thread": self.thread or f"{sp} & ~{self.stack - 1}ul",
            "ring": self.ring,
            "inside": f"{self.prefix}_inside",
            "cpus": self.cpus,
            "slots": self.slots,
            "threads": _SLOTS_OF_THREADS,
        }


def graph_text(names: GraphNames, *, root: bool) -> str:
    """Return the payload of a function's exits: of the one that all is about, or of another."""
    values = names.values("call->sp")
    return _TEXT % {**values, "words": WORDS, "root": root, "extern": "" if root else "extern"}


def seen_text(names: GraphNames, register: str) -> str:
    """Return the payload of a call by pointer: it notes which functions ``register`` (ctr, lr) leads to."""
    values = names.values("regs->r1")
    return _SEEN_TEXT % {**values, "seen": SEEN, "most": SEEN_MOST, "register": register}
