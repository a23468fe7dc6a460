"""A kernel that is configured by a configuration of its own source, changed in what a guest needs."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from kgdbpatch.errors import BuildFailed
from kgdbpatch.guests import linux_build

_DEFCONFIG = "CONFIG_NET=y\nCONFIG_SOUND=m\nCONFIG_GONE=y\n# CONFIG_IPV6 is not set\n"
_KCONFIG = "config NET\nconfig SOUND\nconfig IPV6\nconfig HIBERNATION\n"
# The real one's target, which gives every option that is not named its default: here IPV6 and HIBERNATION.
_MAKEFILE = r"""
alldefconfig:
>@{ printf 'CONFIG_IPV6=y\nCONFIG_HIBERNATION=y\n'; cat $(KCONFIG_ALLCONFIG); } | grep -v GONE | tac \
>    | awk -F'[= ]' '{ name = $$1 == "#" ? $$2 : $$1 } !seen[name]++' > .config
vmlinux:
>@cp .config vmlinux
""".replace(">@", "\t@").replace(">    ", "\t    ")


@pytest.fixture
def sources(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Return where the packages of kernel sources put theirs; of 6.12 there is a small one."""
    place, tree = tmp_path / "sources", tmp_path / "tree" / "linux"
    (tree / "arch/powerpc/configs").mkdir(parents=True)
    place.mkdir()
    (tree / "arch/powerpc/configs/x_defconfig").write_text(_DEFCONFIG)
    (tree / "Kconfig").write_text(_KCONFIG)
    (tree / "Makefile").write_text(_MAKEFILE)
    archive = place / "linux-source-6.12.tar.gz"
    subprocess.run(["tar", "-caf", archive, "-C", tree.parent, "linux"], check=True, timeout=30)
    (place / "linux-source-6.1.tar.xz").touch()
    monkeypatch.setattr(linux_build, "SOURCES", place)
    monkeypatch.setattr(linux_build, "SCRATCH", 1 << 20)
    monkeypatch.setenv("KGDBPATCH_CACHE", str(tmp_path / "cache"))
    return place


def _built(ours: Path) -> Path:
    return linux_build.build_kernel(lambda line: None, [ours], defconfig="x_defconfig", version="6.12")


def test_options_of_ours_go_before_those_of_the_source(sources: Path, tmp_path: Path) -> None:
    ours = tmp_path / "config"
    ours.write_text("CONFIG_SOUND=n\nCONFIG_HIBERNATION=n\n")
    config = (_built(ours).parent / "config").read_text().splitlines()
    assert "CONFIG_NET=y" in config  # the source's own
    assert "# CONFIG_IPV6 is not set" in config
    assert "CONFIG_SOUND=n" in config
    assert "CONFIG_SOUND=m" not in config
    assert "CONFIG_HIBERNATION=n" in config


def test_an_option_of_ours_that_was_not_taken_is_named(sources: Path, tmp_path: Path) -> None:
    ours = tmp_path / "config"
    ours.write_text("CONFIG_GONE=y\n")
    (sources.parent / "tree/linux/Kconfig").write_text(_KCONFIG + "config GONE\n")
    archive = sources / "linux-source-6.12.tar.gz"
    subprocess.run(["tar", "-caf", archive, "-C", sources.parent / "tree", "linux"], check=True, timeout=30)
    with pytest.raises(BuildFailed, match="did not take CONFIG_GONE=y"):
        _built(ours)


def test_kernels_that_differ_in_any_of_it_are_cached_apart(sources: Path, tmp_path: Path) -> None:
    ours = tmp_path / "config"
    ours.write_text("CONFIG_SOUND=n\n")
    kernel = _built(ours)
    assert linux_build.cached_kernel(ours, defconfig="x_defconfig", version="6.12") == kernel
    assert linux_build.cached_kernel(ours, defconfig="y_defconfig", version="6.12") is None
    assert linux_build.cached_kernel(ours, version="6.12") is None
    assert linux_build.cached_kernel(ours, defconfig="x_defconfig") is None  # of 6.1
    ours.write_text("CONFIG_SOUND=m\n")
    assert linux_build.cached_kernel(ours, defconfig="x_defconfig", version="6.12") is None


def test_a_version_that_is_not_installed_is_named(sources: Path) -> None:
    with pytest.raises(BuildFailed, match=r"install linux-source-6\.9"):
        linux_build.source("6.9")
