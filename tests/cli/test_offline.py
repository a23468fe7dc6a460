from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import kgdbpatch
from kgdbpatch.cli import main as entry
from kgdbpatch.errors import BadImage, KgdbPatchError, Misuse, Refused, TargetTimeout

from .conftest import Cli

COMMANDS = ["boot", "ps", "shutdown", "functions", "analyze", "live", "check", "apply", "list", "remove"]
COMMANDS += ["verify", "log", "cfg", "callgraph", "symbols", "read", "write", "disasm"]
REGISTERS = {f"{kind}{n}" for kind in "rf" for n in range(32)} | {f"cr{n}" for n in range(8)}
REGISTERS |= {"lr", "ctr", "ca", "ov", "so", "fpscr"}
PROGRAM = [sys.executable, "-c", "from kgdbpatch.cli import main; main()"]


def one_line_error(err: str) -> str:
    assert err.startswith("kgdbpatch: error: ")
    assert err.count("\n") == 1
    return err


class TestHelp:
    @pytest.mark.parametrize("command", [*COMMANDS, "image build", "image path", "recipe new", "recipe show"])
    def test_every_command_teaches_by_example(self, cli: Cli, command: str) -> None:
        result = cli(*command.split(), "--help")
        assert result.code == 0
        assert f"Usage: kgdbpatch {command} " in result.out
        assert f"kgdbpatch {command}" in result.out.partition("Example")[2]
        assert "--json" in result.out

    def test_the_overview_lists_the_commands(self, cli: Cli) -> None:
        result = cli("--help")
        assert result.code == 0
        for command in COMMANDS:
            assert f"\n  {command} " in result.out
        assert "Exit codes: 0 done" in result.out

    def test_no_command(self, cli: Cli) -> None:
        result = cli()
        assert result.code == 2
        assert "Usage: kgdbpatch" in result.err
        assert result.out == ""

    def test_version(self, cli: Cli) -> None:
        assert cli("--version").out == f"kgdbpatch {kgdbpatch.__version__}\n"

    def test_no_escape_codes_without_a_terminal(self, cli: Cli, kernel_file: Path) -> None:
        for arguments in (["--help"], ["apply", "--help"], ["functions", kernel_file], ["ps"], ["nonsense"]):
            result = cli(*arguments)
            assert "\x1b" not in result.out + result.err


class TestUsage:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (["nonsense"], "No such command 'nonsense'"),
            (["apply"], "Missing argument 'NAME'"),
            (["apply", "darwin", "f"], "give exactly one of --asm, --c, --call, --return, or just --count"),
            (["apply", "darwin", "f", "--c", "a.c", "--call", "g"], "give exactly one of"),
            (["apply", "darwin", "f", "--call", "g", "--entry", "h"], "--entry goes with --c"),
            (["apply", "darwin", "f", "--bogus"], "No such option: --bogus"),
            (["remove", "darwin"], "give the patches' ids, or --all"),
            (["remove", "darwin", "1", "--all"], "give the patches' ids, or --all"),
            (["remove", "darwin", "one"], "valid integer"),
            (["boot", "solaris"], "no recipe 'solaris'; there are darwin, linux"),
            (["image", "path", "solaris"], "no recipe 'solaris'"),
            (["log", "../x"], "no guest '../x'"),
            (["log", "darwin", "-n", "-1"], "'--lines'"),
        ],
    )
    def test_misuse_is_2(self, cli: Cli, arguments: list[str], message: str) -> None:
        result = cli(*arguments)
        assert result.code == 2
        assert message in one_line_error(result.err)
        assert result.out == ""

    @pytest.mark.parametrize(
        "arguments",
        [
            "list x",
            "verify x",
            "log x",
            "shutdown x",
            "check x f",
            "apply x f --call g",
            "remove x 1",
            "live x f",
        ],
    )
    def test_no_such_guest_is_2(self, cli: Cli, arguments: str) -> None:
        result = cli(*arguments.split())
        assert result.code == 2
        assert "no guest 'x' is running (running: none)" in one_line_error(result.err)


class TestFunctions:
    def test_json(self, cli: Cli, kernel_file: Path) -> None:
        result = cli("functions", kernel_file, "--json")
        assert result.code == 0
        assert [set(line) for line in result.json_lines] == [
            {"name", "address", "symbol", "size", "aliases", "section"}
        ] * 5
        assert result.json_lines[2] == {
            "symbol": "_f",
            "name": "_f",
            "address": 0x3000,
            "size": 16,
            "aliases": ["_f_alias"],
            "section": "__TEXT,__text",
        }

    def test_text(self, cli: Cli, kernel_file: Path) -> None:
        lines = cli("functions", kernel_file).out.splitlines()
        assert lines[0].split() == ["ADDRESS", "SIZE", "SECTION", "NAME"]
        assert lines[3].split() == ["0x00003000", "16", "__TEXT,__text", "_f", "_f_alias"]

    @pytest.mark.parametrize("pattern", ["_f", "f", "f_*", "?f"])
    def test_pattern(self, cli: Cli, kernel_file: Path, pattern: str) -> None:
        assert [line["name"] for line in cli("functions", kernel_file, pattern, "--json").json_lines] == [
            "_f"
        ]

    def test_pattern_that_nothing_matches(self, cli: Cli, kernel_file: Path) -> None:
        result = cli("functions", kernel_file, "nothing*", "--json")
        assert (result.code, result.json["exit"]) == (2, 2)
        assert "no function" in one_line_error(result.err)

    def test_neither_file_nor_guest(self, cli: Cli) -> None:
        result = cli("functions", "darwin")
        assert result.code == 2
        assert "'darwin' is no file, and no guest 'darwin' is running" in one_line_error(result.err)

    def test_no_such_file(self, cli: Cli) -> None:
        result = cli("functions", "./mach_kernel")
        assert result.code == 5
        assert "./mach_kernel: no such file" in one_line_error(result.err)

    @pytest.mark.parametrize("size", [0, 3, 100, 900])
    def test_truncated(self, cli: Cli, kernel_file: Path, tmp_path: Path, size: int) -> None:
        (tmp_path / "cut").write_bytes(kernel_file.read_bytes()[:size])
        for command in (["functions"], ["analyze"], ["live"]):
            result = cli(*command, tmp_path / "cut", *(["f"] if command == ["live"] else []))
            assert result.code == 5
            assert str(tmp_path / "cut") in one_line_error(result.err)


class TestAnalyze:
    def test_json(self, cli: Cli, kernel_file: Path) -> None:
        figures = cli("analyze", kernel_file, "--json").json
        assert list(figures) == [
            *("format", "functions", "instructions", "undecoded", "blocks", "edges", "calls"),
            *("indirect_branches", "indirect_resolved", "jump_tables", "indirect_tail_calls", "seconds"),
        ]
        assert figures["format"] == "mach-o"
        assert figures["functions"] == 5
        assert figures["instructions"] == 64 + 32
        assert figures["undecoded"] == figures["calls"] == 0
        assert figures["seconds"] < 10

    def test_text(self, cli: Cli, kernel_file: Path) -> None:
        rows = dict(line.rsplit(None, 1) for line in cli("analyze", kernel_file).out.splitlines())
        assert rows["functions"] == "5"
        assert rows["format"] == "mach-o"


class TestLive:
    def test_json(self, cli: Cli, kernel_file: Path) -> None:
        result = cli("live", kernel_file, "g+0x5c", "--json")
        assert result.code == 0
        assert set(result.json) == {"address", "symbol", "instruction", "live", "free", "why"}
        assert result.json["why"]["lr"] == {"address": 0x307C, "symbol": "_g+0x5c", "instruction": "blr"}
        assert result.json["address"] == 0x307C
        assert result.json["instruction"] == "blr"
        assert {"r1", "lr", "r3"} <= set(result.json["live"])
        assert not set(result.json["live"]) & set(result.json["free"])
        assert set(result.json["live"] + result.json["free"]) <= REGISTERS

    def test_text(self, cli: Cli, kernel_file: Path) -> None:
        lines = cli("live", kernel_file, "0x3020").out.splitlines()
        assert lines[0] == "0x00003020 _g: nop"
        assert [line.split(":")[0] for line in lines[1:] if line[0] != " "] == ["live", "free"]
        assert "  0x0000307c _g+0x5c: blr" in [line.split("  (")[0] for line in lines]

    def test_unknown_symbol(self, cli: Cli, kernel_file: Path) -> None:
        result = cli("live", kernel_file, "netisrr")
        assert result.code == 2
        assert "did you mean _netisr?" in one_line_error(result.err)

    def test_data(self, cli: Cli, kernel_file: Path) -> None:
        result = cli("live", kernel_file, "netisr")
        assert result.code == 3
        assert "__DATA,__data" in one_line_error(result.err)


class TestGraphs:
    def test_cfg_json(self, cli: Cli, kernel_file: Path) -> None:
        result = cli("cfg", kernel_file, "g", "--json")
        assert result.code == 0
        nodes, edges = result.json["nodes"], result.json["edges"]
        places = {node["address"] for node in nodes}
        assert 0x3020 in places
        assert nodes[0]["instructions"][0] == {"address": 0x3020, "symbol": "_g", "text": "nop"}
        assert {"r1", "lr"} <= set(nodes[0]["live"])
        assert nodes[-1]["exits"] == [{"kind": "return", "target": None, "target_symbol": None}]
        assert all({edge["source"], edge["target"]} <= places for edge in edges)

    def test_cfg_text_and_dot(self, cli: Cli, kernel_file: Path) -> None:
        text = cli("cfg", kernel_file, "g").out
        assert text.startswith("_g: ")
        assert "\033" not in text
        assert "    return" in text.splitlines()
        assert cli("cfg", kernel_file, "g", "--dot").out.startswith('digraph "_g" {')

    @pytest.mark.skipif(shutil.which("dot") is None, reason="graphviz is not installed")
    def test_cfg_svg(self, cli: Cli, kernel_file: Path) -> None:
        result = cli("cfg", kernel_file, "g", "--svg")
        assert result.code == 0
        assert "</svg>" in result.out

    def test_no_graphviz(self, cli: Cli, kernel_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nonexistent")
        result = cli("cfg", kernel_file, "g", "--svg")
        assert result.code == 2
        assert "apt-get install graphviz" in one_line_error(result.err)

    def test_callgraph(self, cli: Cli, kernel_file: Path) -> None:
        result = cli("callgraph", kernel_file, "--json")
        assert result.code == 0
        assert {node["name"] for node in result.json["nodes"]} >= {"_g"}
        assert set(result.json) == {"nodes", "edges"}
        assert all(node["leaf"] for node in result.json["nodes"] if node["name"] == "_g")

    def test_no_chain(self, cli: Cli, kernel_file: Path) -> None:
        result = cli("callgraph", kernel_file, "--from", "g", "--to", "g")
        assert result.code == 2
        assert "no chain of calls" in one_line_error(result.err)
        assert cli("callgraph", kernel_file, "--from", "g").code == 2


class TestErrors:
    @pytest.mark.parametrize(
        ("error", "code"),
        [
            (Misuse("no"), 2),
            (Refused("rule", "no"), 3),
            (TargetTimeout("late"), 4),
            (BadImage("x", "bad"), 5),
            (KgdbPatchError("odd"), 1),
            (RuntimeError("two\nlines"), 1),
            (KeyboardInterrupt(), 130),
        ],
    )
    def test_exit_codes(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch, error: BaseException, code: int
    ) -> None:
        def fail() -> None:
            raise error

        monkeypatch.setattr("kgdbpatch.kernel.catalog.known", fail)
        result = cli("ps")
        assert result.code == code
        if code != 130:
            one_line_error(result.err)

    def test_notes_follow_the_line(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        error = Misuse("first\n  second")
        error.add_note("third")

        def fail() -> None:
            raise error

        monkeypatch.setattr("kgdbpatch.kernel.catalog.known", fail)
        assert cli("ps").err == "kgdbpatch: error: first\n  second\n  third\n"

    @pytest.mark.parametrize("way", ["option", "environment"])
    def test_debug_shows_the_traceback(self, cli: Cli, monkeypatch: pytest.MonkeyPatch, way: str) -> None:
        if way == "environment":
            monkeypatch.setenv("KGDBPATCH_DEBUG", "1")
        result = cli(*(["--debug"] if way == "option" else []), "log", "x")
        assert result.code == 2
        assert "Traceback" in result.err
        assert result.err.splitlines()[-1].startswith("kgdbpatch: error: ")


def test_a_reader_that_goes_away(tmp_path: Path, kernel_file: Path) -> None:
    source, sink = os.pipe()
    os.close(source)
    with os.fdopen(sink, "wb") as gone:
        done = subprocess.run(
            [*PROGRAM, "functions", kernel_file], stdout=gone, stderr=subprocess.PIPE, check=False
        )
    assert done.returncode == 141
    assert done.stderr == b""


def test_interrupted(kernel_file: Path) -> None:
    code = (
        "import os, signal; from kgdbpatch.kernel import catalog; from kgdbpatch.cli import main\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whoever runs this may ignore it
        "catalog.known = lambda: os.kill(os.getpid(), signal.SIGINT)\nmain(['ps'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert done.returncode == 128 + signal.SIGINT
    assert done.stderr == b""


def test_the_entry_point_exits(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        entry(["--version"])
    assert leaving.value.code == 0
    assert kgdbpatch.__version__ in capsys.readouterr().out
