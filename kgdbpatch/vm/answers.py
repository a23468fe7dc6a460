"""What QEMU answers to packets: errors made of what it should not have said."""

from __future__ import annotations

from kgdbpatch.errors import CommandFailed, MemoryFault, TargetLost

__all__ = ["block", "memory", "ok"]

_WRITE_FAILED = "memory write failed"  # what "restore" only warns of


def ok(what: str, answer: str) -> None:
    """Raise `CommandFailed` unless the answer is OK."""
    if answer != "OK":
        raise CommandFailed(f"QEMU refuses {what} (answer {answer!r})")


def block(answer: str) -> bytes:
    """Return the registers that are the answer to ``g``."""
    try:
        return bytes.fromhex(answer)
    except ValueError:
        raise TargetLost(f"QEMU's answer to g is {answer[:40]!r}") from None


def memory(address: int, size: int, physical: bool, answer: str) -> None:
    """Raise `MemoryFault` for an answer that is none to the read or the write of memory."""
    restored = answer.startswith("Restoring") and _WRITE_FAILED not in answer
    if answer != "OK" and len(answer) != 2 * size and not restored:
        answer = answer.strip().splitlines()[-1] if answer else "nothing"
        kind = "physical" if physical else "mapped"
        where = f"0x{address:08x}..0x{address + size:08x}"
        raise MemoryFault(f"no {kind} memory at {where} (QEMU answers {answer!r})", address)
