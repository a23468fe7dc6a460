"""The bundled Linux: GDB and the compiler judge what is said of its types."""

from __future__ import annotations

import random
import re
import shutil
import subprocess
import time
from collections.abc import Callable

import pytest

from kgdbpatch.types import KernelTypes
from kgdbpatch.types.model import Record

pytestmark = pytest.mark.linux


def test_headers_of_every_type_compile(linux: KernelTypes, complaints: Callable[[str], str]) -> None:
    names = [f"{kind} {name}" for kind, name in linux.names() if kind in ("struct", "union", "enum")]
    names += [name for kind, name in linux.names() if kind == "typedef"]
    assert len(names) > 1000
    assert complaints(linux.header(names)) == ""


def test_headers_of_single_types_compile(linux: KernelTypes, complaints: Callable[[str], str]) -> None:
    chosen = random.Random(14).sample([name for kind, name in linux.names("struct *")], 40)
    for name in ["sk_buff", "task_struct", "net_device", "inode", *chosen]:
        assert complaints(linux.header([f"struct {name}"])) == "", name


def test_gdb_says_the_same(linux: KernelTypes) -> None:
    """Sizes and the places of all members, bit-fields included, of structures by chance."""
    if shutil.which("gdb-multiarch") is None:
        pytest.skip("gdb-multiarch is not installed")
    complete = [name for kind, name in linux.names("struct *") if linux.find(f"struct {name}").size]
    chosen = ["sk_buff", "task_struct", "sock", *random.Random(41).sample(complete, 60)]
    script = [f"ptype /o struct {name}" for name in chosen]
    options = [part for one in script for part in ("-ex", "echo @@@\\n", "-ex", one)]
    command = ["gdb-multiarch", "-nx", "-batch", *options, str(linux.path)]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split("@@@\n")[1:]
    compared = 0
    for name, text in zip(chosen, said, strict=True):
        record = linux.find(f"struct {name}")
        assert isinstance(record, Record)
        sizes = re.findall(r"total size \(bytes\): +(\d+)", text)
        assert int(sizes[-1]) == record.size, name
        depth_one = re.findall(
            r"^/\* +(\d+)(?:: *(\d+))? +\| +(\d+) \*/    \S.*?(\w+)(?:\[.*)?(?: : (\d+))?;$", text, re.M
        )
        for offset, _, size, member, width in depth_one:
            found = next((one for one in record.members if one.name == member), None)
            if found is None:
                continue  # of a function pointer, which is spelt otherwise
            assert found.type.size == int(size), (name, member)
            place = (found.offset, found.bits or 0) if width else (found.offset, 0)
            if width:
                unit = 8 * int(size)
                assert found.bits == int(width)
                assert found.bit // unit * int(size) <= int(offset) < (found.bit // unit + 1) * int(size)
            else:
                assert place == (int(offset), 0), (name, member)
            compared += 1
    assert compared > 300


def test_the_second_time_is_quick(linux: KernelTypes) -> None:
    _ = linux.index
    begun = time.process_time()
    assert KernelTypes.of(linux.path).find("struct sk_buff").size
    assert time.process_time() - begun < 1.5


def test_prototypes(linux: KernelTypes) -> None:
    assert linux.declaration("udp_sendmsg") == (
        "int udp_sendmsg(struct sock *sk, struct msghdr *msg, size_t len);"
    )
    for _, name in linux.names("vfs_*"):
        assert name in linux.declaration(name)
