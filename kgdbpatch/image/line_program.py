"""Run a line number program of DWARF: the rows that it makes (DWARF 5, section 6.2)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

__all__ = ["Row", "rows"]

_COPY, _ADVANCE_PC, _ADVANCE_LINE, _SET_FILE, _SET_COLUMN, _NEGATE, _BLOCK, _CONST_PC, _FIXED = range(1, 10)
_END, _SET_ADDRESS = 1, 2


class Row(NamedTuple):
    """Where the code of a line begins; ``end``: behind the last code of a sequence."""

    address: int
    file: int
    line: int
    stmt: bool
    end: bool


def rows(program: Any) -> Iterator[Row]:
    """Yield the rows of a program of pyelftools', whose header it has read.

    Raises `IndexError` or `ValueError` where it is damaged.
    """
    header, stream = program.header, program.stream
    stream.seek(program.program_start_offset)
    data = stream.read(program.program_end_offset - program.program_start_offset)
    order = "little" if program.structs.little_endian else "big"
    least, base, span = header["minimum_instruction_length"], header["line_base"], header["line_range"]
    first, lengths = header["opcode_base"], header["standard_opcode_lengths"]
    default = bool(header["default_is_stmt"])
    address, file, line, stmt, at = 0, 1, 1, default, 0
    while at < len(data):
        opcode = data[at]
        at += 1
        if opcode >= first:
            beyond = opcode - first
            address += beyond // span * least
            line += base + beyond % span
            yield Row(address, file, line, stmt, False)
        elif opcode == 0:
            size, at = _unsigned(data, at)
            if not size:
                raise ValueError("an instruction of no length in a line table")
            what = data[at]
            if what == _END:
                yield Row(address, file, line, stmt, True)
                address, file, line, stmt = 0, 1, 1, default
            elif what == _SET_ADDRESS:
                address = int.from_bytes(data[at + 1 : at + size], order)  # type: ignore[arg-type]
            at += size
        elif opcode == _COPY:
            yield Row(address, file, line, stmt, False)
        elif opcode == _ADVANCE_PC:
            value, at = _unsigned(data, at)
            address += value * least
        elif opcode == _ADVANCE_LINE:
            value, at = _signed(data, at)
            line += value
        elif opcode == _SET_FILE:
            file, at = _unsigned(data, at)
        elif opcode == _NEGATE:
            stmt = not stmt
        elif opcode == _CONST_PC:
            address += (255 - first) // span * least
        elif opcode == _FIXED:
            address += int.from_bytes(data[at : at + 2], order)  # type: ignore[arg-type]
            at += 2
        else:
            for _ in range(lengths[opcode - 1]):
                _, at = _unsigned(data, at)


def _unsigned(data: bytes, at: int) -> tuple[int, int]:
    """Return a number of LEB128 and where what follows it begins."""
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if byte < 0x80:
            return value, at


def _signed(data: bytes, at: int) -> tuple[int, int]:
    value, behind = _unsigned(data, at)
    bits = 7 * (behind - at)
    return value - (value >> bits - 1 << bits), behind
