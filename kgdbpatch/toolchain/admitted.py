"""What of an object cannot be in a payload: kinds of relocations and sections that need more than a place."""

from __future__ import annotations

import io
import re
import tempfile
from pathlib import Path
from typing import Any

from elftools.elf.constants import SH_FLAGS
from elftools.elf.elffile import ELFFile
from elftools.elf.enums import ENUM_RELOC_TYPE_PPC

from kgdbpatch.errors import BadPatch
from kgdbpatch.toolchain.gnu import run
from kgdbpatch.toolchain.objects import entries

__all__ = ["DROPPED", "TEXT", "check_admitted", "where"]

_HALVES = ("16", "16_LO", "16_HI", "16_HA")
_TLS = ("TLS", "DTPMOD32", *(f"TPREL{h}" for h in _HALVES), "TPREL32", *(f"DTPREL{h}" for h in _HALVES))
_TLS += ("DTPREL32", *(f"GOT_{k}{h}" for k in ("TLSGD", "TLSLD", "TPREL", "DTPREL") for h in _HALVES))
_KINDS = {number: name for name, number in ENUM_RELOC_TYPE_PPC.items() if isinstance(number, int)}
# those that pyelftools does not name
_KINDS |= {249 + number: f"R_PPC_REL{half}" for number, half in enumerate(_HALVES)}
_KINDS |= {
    32: "R_PPC_SDAREL16",
    **dict(enumerate((f"R_PPC_{name}" for name in (*_TLS, "TLSGD", "TLSLD")), 67)),
}
# NONE, ADDR32 to REL14_BRNTAKEN, PLTREL24, LOCAL24PC, UADDR32, UADDR16, REL32, REL16 to REL16_HA
_ADMITTED = frozenset([*range(14), 18, 23, 24, 25, 26, 249, 250, 251, 252])
_GOT = "is of position-independent code with a table of the dynamic linker: compile with -fno-pic"
_SMALL = "is small data behind r13 or r2, which are the kernel's own: compile with -msdata=none"
_THREAD = "is thread-local: a kernel has no such variables"
_REASONS = [
    (r"R_PPC_.*(TLS|TPREL|DTPREL|DTPMOD)", _THREAD),
    (r"R_PPC_(GOT|PLT|COPY|GLOB_DAT|JMP_SLOT|RELATIVE|LOCAL24PC|REL16DX|IRELATIVE)", _GOT),
    (r"R_PPC_(SDAREL|EMB_SDA|EMB_RELSDA|EMB_NADDR|SDA|VLE_SDA)", _SMALL),
]
_TABLE = "_GLOBAL_OFFSET_TABLE_"

# sections of code besides .text, as kernels name them
TEXT = tuple(f".{name}.text" for name in ("sched", "kprobes", "noinstr", "ref", "irqentry", "softirqentry"))
TEXT += (".cpuidle.text", ".spinlock.text", ".init.text", ".init.text.*", ".exit.text", ".exit.text.*")
# what a kernel's build or module loader reads, and nobody needs while the code runs
DROPPED = (
    *(".modinfo", ".gnu.linkonce.this_module", "__versions", "__ksymtab*", "__kcrctab*", "___ksymtab*"),
    *("___kcrctab*", ".export_symbol", "__mcount_loc", "__patchable_function_entries", "__lwsync_fixup"),
    *(".discard.*", ".printk_index", ".stab*", ".BTF*", ".llvm_addrsig", ".llvm.*", ".ppc.*", ".modinfo*"),
)
_PLACED = re.compile(
    r"\.(init|exit)\.(text|data|rodata)(\..*)?|\.(preinit_array|init_array|fini_array|ctors|dtors)(\..*)?|"
    r"\.initcall(early|rootfs|[0-7]s?)\.init|\.con_initcall\.init|\.exitcall\.exit|"
    r"\.(text|rodata|data|bss|sdata|sbss|sdata2|sbss2|got2)(\..*)?|\.(note|eh_frame|comment|PPC|gnu)\b.*|\.kgp\..*"
)
_LOST = {
    "__bug_table": "has BUG or WARN: the kernel does not find what they say of a payload",
    "__ex_table": "handles faults of its own (as get_user does): the kernel does not find how",
    "__jump_table": "has static branches: the kernel does not set those of a payload",
    "__tracepoints": "defines tracepoints: the kernel does not know of a payload's",
    ".data..percpu": "defines variables of each CPU: the kernel has no room for a payload's",
    ".tdata": "has thread-local variables: a kernel has none",
    ".tbss": "has thread-local variables: a kernel has none",
}
_PATTERNS = [
    (re.compile(r"\.(init|exit|meminit|memexit)\.|\.initcall.*|__param|__setup.*"), 1),
    (re.compile(r"(__.*fixup|\.altinstructions.*|__.*_fixup)"), 2),
]
_WHY = {
    1: "is for the kernel's start-up or its loader of modules (parameters, __setup): nobody reads it",
    2: "has instructions that the kernel fits to its CPU: it does not do so in a payload",
}


def check_admitted(data: bytes, about: str) -> None:
    """Raise `BadPatch` for the first section or relocation of an object that no payload can have."""
    file = ELFFile(io.BytesIO(data))
    for number, section in enumerate(file.iter_sections()):
        if section["sh_flags"] & SH_FLAGS.SHF_ALLOC and section["sh_size"]:
            why = _lost(section.name)
            if why is not None:
                raise BadPatch(f"{_user(file, data, number, about)}: {why}")
    for table, _, entry, symbol in entries(file, loaded=True):
        kind, owner = entry["r_info_type"], file.get_section(table["sh_info"])
        if kind in _ADMITTED and symbol.name != _TABLE:
            continue
        named = _KINDS.get(kind, f"R_PPC_{kind}")
        reasons = (reason for pattern, reason in _REASONS if re.match(pattern, named))
        why = _GOT if symbol.name == _TABLE else next(reasons, "is a relocation that no payload can have")
        what = symbol.name or _section_name(file, symbol)
        raise BadPatch(f"{where(data, owner.name, entry['r_offset'], about)}: '{what}' ({named}) {why}")


def _section_name(file: ELFFile, symbol: Any) -> str:
    index = symbol["st_shndx"]
    return file.get_section(index).name if isinstance(index, int) else ""


def _lost(name: str) -> str | None:
    """Return why a section cannot be loaded with a payload; None where it can, or is not needed."""
    for lost, why in _LOST.items():
        if name == lost or name.startswith(f"{lost}."):
            return why
    dropped = any(re.fullmatch(re.escape(one).replace(r"\*", ".*"), name) for one in DROPPED)
    if dropped or _PLACED.fullmatch(name) or name in TEXT:
        return None
    for pattern, which in _PATTERNS:
        if pattern.match(name):
            return f"section {name} {_WHY[which]}"
    return f"section {name}: nobody knows what the kernel would do with it"


def _user(file: ELFFile, data: bytes, number: int, about: str) -> str:
    """Return the place in the source that has put something into a section, by what the section points to."""
    for table, _, entry, symbol in entries(file, loaded=True):
        index = symbol["st_shndx"]
        if table["sh_info"] == number and isinstance(index, int):
            section = file.get_section(index)
            if section["sh_flags"] & SH_FLAGS.SHF_EXECINSTR:
                return where(data, section.name, symbol["st_value"] + entry["r_addend"], about)
    return about


def where(data: bytes, section: str, offset: int, about: str) -> str:
    """Return ``file:line`` of a place in an object, or ``about`` and the place where nothing tells it."""
    with tempfile.TemporaryDirectory(prefix="kgdbpatch-") as directory:
        path = Path(directory, "object.o")
        path.write_bytes(data)
        done = run("addr2line", "-e", path, "-j", section, f"0x{offset:x}", about=about)
    told = done.stdout.strip().split(" (discriminator")[0]
    file, _, line = told.rpartition(":")
    if done.returncode or not line.isdigit() or file in ("", "??") or line == "0":
        return f"{about}: {section}+0x{offset:x}"
    return f"{about}:{line}" if file.endswith("<stdin>") else told
