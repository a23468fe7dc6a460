"""What an update's patches are made of: one body with all of its code, and splices that lead into it.

The first patch's body is: a note, room for what was at its site, the linked code. The others have that room
alone. Data that is written over is a patch without code: its "splice" is the new word.
"""

from __future__ import annotations

from collections.abc import Callable

from kgdbpatch.isa.abi import ABI
from kgdbpatch.patch.payload import Payload, Replacement, blob_payload
from kgdbpatch.patch.planned import Place, Plan

__all__ = ["CODE_ROOM", "carrier", "data_plan", "follower"]

_ROOM = 24  # words: as toolchain.link.ORIGINAL_ROOM
CODE_ROOM = 4 * _ROOM  # bytes between the note and the code, a multiple of 16
Link = Callable[[int], tuple[bytes, int]]  # (address) ─► code, and the size of its constant part


def carrier(
    note: Callable[[int], bytes], size: int, link: Link, entry: Callable[[int], int], abi: ABI
) -> Payload:
    """Return the payload of an update's first function, with a ``note(body)`` of ``size`` bytes.

    ``entry(code)`` is where the new function is, of code that stands there.
    """
    front = size + CODE_ROOM

    def blob(body: int) -> tuple[bytes, int]:
        code, constant = link(body + front)
        return note(body) + bytes(CODE_ROOM) + code, front + constant

    replacement = Replacement(lambda body: entry(body + front), size, _ROOM)
    return _payload(blob, replacement, abi)


def follower(entry: int, abi: ABI) -> Payload:
    """Return the payload of another function of the update, whose new code is at ``entry``."""
    return _payload(
        lambda _body: (bytes(CODE_ROOM), CODE_ROOM), Replacement(lambda _body: entry, 0, _ROOM), abi
    )


def _payload(blob: Callable[[int], tuple[bytes, int]], replacement: Replacement, abi: ABI) -> Payload:
    payload = blob_payload(lambda at: (*blob(at), 0), abi)
    return payload._replace(replaces=replacement)


def data_plan(site: int, before: int, after: int, place: Place, code: bytes, constant: int) -> Plan:
    """Plan that the word ``before`` of data at ``site`` becomes ``after``; ``code`` is what goes along."""
    return Plan(
        site=site,
        original=before,
        splice=after,
        body=place.body,
        code=code,
        constant_size=constant,
        body_words=0,
        saved=(),
        springboard=None,
        springboard_code=b"",
        guard=(0, 0),
        counted=False,
        tail=0,
        onward=0,
        replaces=bool(code),
        data=True,
    )
