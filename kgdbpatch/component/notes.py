"""What an update says of itself in the guest: a note at the beginning of its first patch's body."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from kgdbpatch.component.layout import BODY_ALIGNMENT
from kgdbpatch.errors import ComponentDamaged

__all__ = ["Note"]

_MAGIC = b"kgpn"
_HEAD = np.dtype([("magic", "V4"), ("addresses", ">u4"), ("size", ">u4"), ("plain", ">u4")])
_MOST = 8 << 20  # bytes, unpacked


class Note(NamedTuple):
    """What is noted: values (as JSON has them), addresses, and a file. Its size does not go by addresses."""

    values: dict[str, Any]
    addresses: Sequence[int]
    file: bytes

    def packed(self) -> bytes:
        """Return it as it stands in a body, in whole units of `BODY_ALIGNMENT` bytes."""
        text = json.dumps(self.values, separators=(",", ":")).encode()
        plain = len(text).to_bytes(4, "big") + text + self.file
        data = zlib.compress(plain, 9)
        head = np.array((_MAGIC, len(self.addresses), len(data), len(plain)), _HEAD)
        note = head.tobytes() + np.array(self.addresses, ">u4").tobytes() + data
        return note + bytes(-len(note) % BODY_ALIGNMENT)

    @classmethod
    def unpacked(cls, body: bytes) -> Note:
        """Return the note that a body begins with; or `ComponentDamaged`."""
        try:
            head = np.frombuffer(body, _HEAD, 1)[0]
            count, size, plain = (int(head[name]) for name in ("addresses", "size", "plain"))
            addresses = np.frombuffer(body, ">u4", count, _HEAD.itemsize).tolist()
            start = _HEAD.itemsize + 4 * count
            if head["magic"].tobytes() != _MAGIC or plain > _MOST or start + size > len(body):
                raise ValueError
            data = zlib.decompressobj().decompress(body[start : start + size], plain)
            length = int.from_bytes(data[:4], "big")
            values = json.loads(data[4 : 4 + length])
            if not isinstance(values, dict):
                raise ValueError
        except (ValueError, zlib.error) as error:
            raise ComponentDamaged("what an update says of itself in the guest is damaged") from error
        return cls(values, addresses, data[4 + length :])
