"""A command publishes its result whether or not anyone reads what it prints."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.streams import open_closed_streams, outlive_readers
from support.processes import Process

CODE = Path(__file__).parents[2] / "code"
PROGRAM = """
import os, subprocess, sys
from pathlib import Path
from runtime.failure import run
def command():
    for number in range(3):
        print("line", number, flush=True)
        print("warning", number, file=sys.stderr)
        sys.stdin.read()  # until the reader of this program is ready
    result = Path(sys.argv[1]).open("w")
    assert result.fileno() > 2, "the result has the number of a standard stream"
    subprocess.run([sys.executable, "-c", "import os; [os.fstat(number) for number in range(3)]"], check=True)
    print(sys.stdin is not None, sys.stdout.isatty(), sys.stderr.isatty(), file=result)
run(command, **eval(sys.argv[2]))
"""


def shell(redirection: str, result: Path, options: str = "{}") -> subprocess.CompletedProcess[str]:
    """Run the program in a shell, with a redirection after it."""
    line = f'"$0" -c "$1" "$2" "$3" {redirection}'
    words = ["bash", "-o", "pipefail", "-c", line, sys.executable, PROGRAM, str(result), options]
    environ = os.environ | {"PYTHONPATH": str(CODE)}
    return subprocess.run(words, env=environ, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("redirection", [">&-", "2>&-", ">&- 2>&-", "<&-", "<&- >&- 2>&-"])
def test_a_command_runs_with_closed_streams(redirection: str, tmp_path: Path) -> None:
    done = shell(redirection, tmp_path / "result")
    assert (done.returncode, "Traceback" in done.stderr) == (0, False)
    assert (tmp_path / "result").read_text() == "True False False\n"


@pytest.mark.parametrize("redirection", ["| head -1", "| true", "2> >(true)", "2>&1 | head -1"])
def test_a_command_outlives_the_readers_of_its_streams(redirection: str, tmp_path: Path) -> None:
    done = shell(redirection, tmp_path / "result")
    assert (done.returncode, "BrokenPipe" in done.stderr) == (0, False)
    assert (tmp_path / "result").exists()


@pytest.mark.parametrize(("encoding", "printed"), [("ascii", b"\\xe9 \\udcff\n"), ("utf-8", b"\xc3\xa9 \\udcff\n")])
@pytest.mark.parametrize("options", ["", ", needs_reader=True"])
def test_a_character_that_stdout_cannot_take_is_printed_as_an_escape(
    encoding: str, printed: bytes, options: str
) -> None:
    program = f"from runtime.failure import run\nrun(lambda: print(chr(0xe9), chr(0xdcff)){options})"
    environ = os.environ | {"PYTHONPATH": str(CODE), "PYTHONIOENCODING": encoding}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, printed, b"")


def test_a_command_that_needs_its_reader_ends_with_it(tmp_path: Path) -> None:
    line = [sys.executable, "-c", PROGRAM, str(tmp_path / "result"), "{'needs_reader': True}"]
    environ = os.environ | {"PYTHONPATH": str(CODE)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with Process(line, env=environ, text=True, **pipes) as process:  # type: ignore[call-overload]
        assert process.stdout.readline() == "line 0\n"
        process.stdout.close()
        process.stdin.close()
        assert "BrokenPipeError" in process.stderr.read()
    assert process.returncode == 1
    assert not (tmp_path / "result").exists()


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_stays_gets_every_line_in_its_encoding(unbuffered: str) -> None:
    program = "from runtime.failure import run; run(lambda: [print(n, '\\N{SNOWMAN}') for n in range(2)])"
    environ = os.environ | {"PYTHONPATH": str(CODE), "PYTHONUNBUFFERED": unbuffered, "PYTHONIOENCODING": "utf-16-le"}
    done = subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, check=True)
    assert done.stdout.decode("utf-16-le") == "0 \N{SNOWMAN}\n1 \N{SNOWMAN}\n"


def test_a_stream_that_a_program_has_replaced_stays(capsys: pytest.CaptureFixture[str]) -> None:
    before = sys.stdout, sys.stderr
    open_closed_streams()
    outlive_readers("stdout", "stderr")
    assert (sys.stdout, sys.stderr) == before
