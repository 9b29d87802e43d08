"""Flags, SageMaker's strings and the environment become typed values, or one sentence that names every mistake."""

import math
import re
from collections.abc import Mapping
from dataclasses import Field, dataclass, fields
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import TrainConfig, TrainPaths
from options.evaluation import EvaluationConfig, EvaluationPaths
from options.inference import InferenceConfig, InferencePaths
from runtime.arguments import SubCommand, folder, option, override, parse, parse_command, upgrade
from runtime.conversion import Value, distinct
from runtime.errors import ConfigError
from runtime.version import version

Classes = tuple[type[Any], ...]
TRAIN, INFERENCE = (TrainPaths, TrainConfig), (InferencePaths, InferenceConfig)
EVALUATION = (EvaluationPaths, EvaluationConfig)


@dataclass(frozen=True, kw_only=True)
class Example:
    """One field of every type."""

    data_dir: Path = folder("SM_CHANNEL_EXAMPLE", "/data", "where from", also="SM_CHANNEL_OTHER")
    cache_dir: Path | None = folder("SM_CACHE", None, "where to")
    batch_size: int = option(64, "images per step", minimum=1)
    lr: float = option(0.1, "learning rate", above=0, below=10)
    resize: tuple[int, int] = option((128, 96), "height and width", minimum=8)
    crop: tuple[int, int] | None = option(None, "crop", minimum=8)
    fast: bool = option(False, "be quick, 100% sure")
    name: str = option("exp", "name")
    mode: str = option("auto", "mode", choices=("auto", "never"))
    criterion_args: dict[str, Value] = option({}, "arguments")


def read(*argv: str, environ: Mapping[str, str] | None = None) -> Any:
    return parse("example.py", argv, environ or {}, Example)[0]


def test_without_flags_everything_has_its_default() -> None:
    assert read() == Example(data_dir=Path("/data"))


@pytest.mark.parametrize("flag", ["--batch-size", "--batch_size"])
@pytest.mark.parametrize("text", ["256", '"256"', '"\\"256\\""', " 256 ", "256.0", "2.56e2", "+256"])
def test_both_spellings_of_a_flag_and_every_spelling_of_a_number_are_read(flag: str, text: str) -> None:
    assert read(flag, text).batch_size == 256
    assert read(f"{flag}={text}").batch_size == 256


def test_a_large_whole_number_keeps_every_digit() -> None:
    assert read("--batch-size", str(2**60 + 1)).batch_size == 2**60 + 1


@pytest.mark.parametrize(
    "words",
    [
        ["128", "96"],
        ["128,96"],
        ["128 96"],
        ["[128, 96]"],
        ["(128, 96)"],
        ['"[128, 96]"'],
        ["[128,", "96]"],
        ['"128"', "96"],
    ],
)
def test_a_pair_is_read_in_every_spelling(words: list[str]) -> None:
    assert read("--resize", *words).resize == (128, 96)
    assert read("--crop", *words).crop == (128, 96)


@pytest.mark.parametrize("text", ["true", "True", "1", "yes", "on", '"true"', "TRUE"])
def test_every_spelling_of_true_is_true(text: str) -> None:
    assert read("--fast", text).fast is True


@pytest.mark.parametrize("text", ["false", "False", "0", "no", "off", '"False"'])
def test_every_spelling_of_false_is_false(text: str) -> None:
    assert read("--fast", text).fast is False


def test_a_bare_boolean_flag_means_true() -> None:
    assert read("--fast").fast is True
    assert read("--fast", "--batch-size", "2").fast is True


@pytest.mark.parametrize("text", ["", " ", '""', '"\\"\\""', "null", "None", '"null"', '"None"', " None "])
@pytest.mark.parametrize("field", [field.name for field in fields(Example)])
def test_an_empty_string_and_none_as_text_leave_every_default(field: str, text: str) -> None:
    assert read(f"--{field}", text) == read()


@pytest.mark.parametrize("text", ["none", "None", "null", '"None"'])
def test_none_removes_the_value(text: str) -> None:
    assert read("--crop", "16,16", "--crop", text).crop is None
    assert read("--cache-dir", text).cache_dir is None


@pytest.mark.parametrize(
    "words",
    [
        ["gamma=1.5,reduction=sum,steps=3,on=true"],
        ["gamma=1.5", "reduction=sum", "steps=3", "on=True"],
        ['{"gamma": 1.5, "reduction": "sum", "steps": 3, "on": true}'],
        ['"{\\"gamma\\": 1.5, \\"reduction\\": \\"sum\\", \\"steps\\": 3, \\"on\\": true}"'],
    ],
)
def test_named_arguments_are_read_from_pairs_and_from_json(words: list[str]) -> None:
    arguments = read("--criterion-args", *words).criterion_args
    assert arguments == {"gamma": 1.5, "reduction": "sum", "steps": 3, "on": True}
    assert [type(value) for value in arguments.values()] == [float, str, int, bool]


@pytest.mark.parametrize(
    "text",
    [
        "gamma",
        "=1",
        "a=1,a=2",
        "a=nan",
        "a=-inf",
        '{"a": NaN}',
        '{"a": 1e999}',
        '{"a": 1, "a": 2}',
        "{",
        "{]}",
        '{"a": null}',
        '{"a": [1]}',
        '{"a":' + "[" * 2000,
        "[1]",
    ],
)
def test_named_arguments_of_another_form_are_rejected(text: str) -> None:
    with pytest.raises(ConfigError, match=r"^--criterion-args: .*(is not|is neither|is given twice)"):
        read("--criterion-args", text)


@pytest.mark.parametrize("word", ["--help=1", "--version=true"])
def test_a_value_of_help_or_version_is_not_said_to_be_unknown(word: str) -> None:
    with pytest.raises(ConfigError, match=rf"^{word.partition('=')[0]} takes no value; leave it out$"):
        read(word)


def test_a_number_that_is_none_is_not_said_to_be_given_twice() -> None:
    for text in ("gamma=nan", '{"gamma": NaN}'):
        with pytest.raises(ConfigError, match=r"^--criterion-args: gamma=nan is not a finite number$"):
            read("--criterion-args", text)
    assert list(distinct([("gamma", math.nan)])) == [
        "gamma"
    ]  # as in hyperparameters.json, whose values are checked later


def test_two_configurations_do_not_share_a_default() -> None:
    assert read().criterion_args is not read().criterion_args


def test_none_in_small_letters_is_a_text_like_any_other() -> None:
    assert read("--name", "none").name == "none"
    with pytest.raises(ConfigError, match="--lr: 'none' is not a finite number"):
        read("--lr", "none")


def test_the_last_of_several_flags_wins() -> None:
    assert read("--batch-size", "1", "--batch-size", "2").batch_size == 2


@pytest.mark.parametrize("words", [["--batch-size", "1", "--batch_size", "2"], ["--batch_size=2", "--batch-size=1"]])
def test_two_spellings_of_a_flag_with_different_values_are_rejected(words: list[str]) -> None:
    with pytest.raises(
        ConfigError, match=r"^--batch.size . and --batch.size . are the same option with different values"
    ):
        read(*words)


def test_two_spellings_of_a_flag_may_agree() -> None:
    assert read("--batch-size", "2", "--batch_size", "2.0").batch_size == 2
    assert read("--batch-size", "null", "--batch_size", "2").batch_size == 2


def test_flags_replace_earlier_ones_of_any_spelling() -> None:
    earlier = ["--batch-size=1", "--lr=2", "--accumulate=3", "--unknown=4"]
    assert override(earlier, ["--batch_size", "5", "--parts=6"], Example, Renamed) == ["--lr=2", "--unknown=4"]


def test_a_folder_comes_from_its_flag_then_its_variable_then_its_default() -> None:
    environ = {"SM_CHANNEL_EXAMPLE": "/from/variable", "SM_CACHE": ""}
    assert read(environ=environ).data_dir == Path("/from/variable")
    assert read("--data-dir", "/from/flag", environ=environ).data_dir == Path("/from/flag")
    assert read("--data-dir", "", environ=environ).data_dir == Path("/data")
    assert read(environ=environ).cache_dir is None


def test_the_second_variable_is_read_if_the_first_is_not_set() -> None:
    environ = {"SM_CHANNEL_EXAMPLE": "", "SM_CHANNEL_OTHER": "/other"}
    assert read(environ=environ).data_dir == Path("/other")
    assert read(environ=environ | {"SM_CHANNEL_EXAMPLE": "/first"}).data_dir == Path("/first")


def test_several_mistakes_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        read("--batch-size", "0", "--lr", "x", "--resize", "1,2,3", "--mode", "nevr", "--bath-size", "3", "stray")
    sentence = str(caught.value)
    assert "unknown argument '--bath-size' (did you mean '--batch-size'?)" in sentence
    assert "--batch-size: 0 is out of range, must be at least 1" in sentence
    assert "--lr: 'x' is not a finite number" in sentence
    assert "--resize: takes 2 numbers such as 128,96, got '1,2,3'" in sentence
    assert "--mode: unknown value 'nevr' (did you mean 'never'?)" in sentence
    assert "\n" not in sentence


@pytest.mark.parametrize(
    ("argv", "sentence"),
    [
        (["--lr", "nan"], "--lr: 'nan' is not a finite number"),
        (["--lr", "1e999"], "--lr: '1e999' is not a finite number"),
        (["--lr", "10"], "--lr: 10 is out of range, must be above 0 and below 10"),
        (["--batch-size", "1.5"], "--batch-size: '1.5' is not a whole number"),
        (["--batch-size", "9" * 2000], "is not a whole number"),
        (["--batch-size", "-3"], "--batch-size: -3 is out of range, must be at least 1"),
        (["--batch-size", "3", "4"], "--batch-size: takes one value, got 2: 3 4"),
        (["--resize", "128,7"], "--resize: 7 is out of range, must be at least 8"),
        (["--resize", "a,b"], "--resize: 'a' is not a whole number"),
        (["--fast", "maybe"], "--fast: 'maybe' is neither true nor false"),
        (["--batch-size"], "--batch-size: expected a value"),
        (["--resize", "--fast"], "--resize: expected a value"),
        (["stray"], "unknown argument 'stray'"),
        (["--batch", "3"], "unknown argument '--batch' (did you mean '--batch-size'?)"),
    ],
)
def test_a_mistake_is_named_with_its_flag_and_what_was_expected(argv: list[str], sentence: str) -> None:
    with pytest.raises(ConfigError) as caught:
        read(*argv)
    assert sentence in str(caught.value)


def test_a_bad_variable_is_named_instead_of_a_flag() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Limited:
        """One folder."""

        level: int = folder("SM_LEVEL", None, "a number")

    with pytest.raises(ConfigError, match=r"^SM_LEVEL: 'deep' is not a whole number$"):
        parse("example.py", [], {"SM_LEVEL": "deep"}, Limited)


def test_options_that_do_not_fit_together_are_mistakes_too() -> None:
    with pytest.raises(ConfigError) as caught:
        parse("train.py", ["--parts", "9", "--batch-size", "4", "--name", ".x"], {}, *TRAIN)
    assert "--parts: 9 is more than the 4 images of a batch; --name: '.x' is not" in str(caught.value)


@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_help_shows_every_flag_once_with_its_value_and_its_default(
    flag: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    with pytest.raises(SystemExit) as caught:
        read(flag)
    assert caught.value.code == 0
    text = capsys.readouterr().out
    for field in fields(Example):
        assert text.count(f"--{field.name.replace('_', '-')} ") == 1
        assert f"--{field.name}" not in text or "_" not in field.name
        assert field.metadata["help"] in text
    for shown in (
        "--batch-size N ",
        "--resize N N ",
        "--fast [BOOL] ",
        "--data-dir DIR ",
        "--criterion-args NAME=VALUE,",
    ):
        assert shown in text
    for note in (
        "default 64",
        "default 128,96",
        "default false",
        "(SM_CHANNEL_EXAMPLE or SM_CHANNEL_OTHER, default /data)",
    ):
        assert note in text
    assert "{auto,never}" in text


def test_the_version_is_printed_and_ends_well(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        read("--batch-size", "many", "--version")
    assert capsys.readouterr().out == f"mask-classifier {version()}\n"


@dataclass(frozen=True, kw_only=True)
class Target:
    """A job."""

    job: str = option("", "its name")

    def problems(self) -> list[str]:
        return [] if self.job else ["a name is needed"]


COMMANDS = {
    "train": SubCommand(help="learn, 100% of the time", schema=(Example,), usage="[flags] -- [more]"),
    "wait": SubCommand(help="stay until a job has ended", schema=(Target, Example), usage="JOB [flags]", first="job"),
}


def read_command(*argv: str) -> tuple[str, tuple[Any, ...]]:
    return parse_command("tool.py", argv, {}, COMMANDS, description="What the tool does.")


def test_each_command_has_its_own_options() -> None:
    assert read_command("train", "--batch_size=3") == ("train", (Example(data_dir=Path("/data"), batch_size=3),))
    name, (target, _) = read_command("wait", "--job", "faces-1", "--fast")
    assert (name, target.job) == ("wait", "faces-1")


def test_one_value_may_come_first_without_its_flag() -> None:
    _, (target, example) = read_command("wait", "faces-1", "--lr", "2")
    assert (target.job, example.lr) == ("faces-1", 2)
    with pytest.raises(ConfigError, match="a name is needed"):
        read_command("wait", "--lr", "2")


def test_several_mistakes_in_several_configurations_are_reported_together() -> None:
    with pytest.raises(ConfigError) as caught:
        read_command("wait", "--lr", "x", "--bath-size", "3")
    for sentence in ("a name is needed", "--lr: 'x' is not", "did you mean '--batch-size'"):
        assert sentence in str(caught.value)


@pytest.mark.parametrize("argv", [["trian"], ["trian", "--help"], ["--lr", "2", "train"]])
def test_an_unknown_command_lists_all_of_them(argv: list[str]) -> None:
    with pytest.raises(ConfigError, match=r"unknown command .*train.*wait|unknown command .*wait.*train"):
        read_command(*argv)


@pytest.mark.parametrize("argv", [[], ["--help"], ["-h"], ["--help", "train"]])
def test_the_help_lists_every_command_with_a_line(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        read_command(*argv)
    shown = capsys.readouterr().out
    assert shown.startswith("usage: tool.py COMMAND [flags]\n\nWhat the tool does.\n")
    assert re.search(r"^ +train +learn, 100% of the time$", shown, re.MULTILINE)
    assert re.search(r"^ +wait +stay until a job has ended$", shown, re.MULTILINE)


def test_the_help_of_a_command_shows_how_it_is_called_and_its_flags(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        read_command("wait", "faces-1", "--help")
    shown = capsys.readouterr().out
    assert shown.startswith("usage: tool.py wait JOB [flags]\n\nstay until a job has ended\n")
    assert "--batch-size N" in shown
    with pytest.raises(SystemExit, match="0"):
        read_command("train", "--version")
    assert capsys.readouterr().out == f"mask-classifier {version()}\n"


SHORT = st.text(max_size=40) | st.sampled_from(["--", "-", "=", "[", '"', '"\\"', "{", "none", "1e400", "-1e-3", "[1,"])
LONG = st.tuples(st.text(min_size=1, max_size=5), st.integers(1, 500)).map(lambda pair: pair[0] * pair[1])


def outcome(argv: list[str], classes: Classes) -> str:
    """Return how parsing ended; any other exception fails the test."""
    try:
        parse("command.py", argv, {}, *classes)
    except ConfigError as error:
        return f"sentence: {error}"
    except SystemExit as error:
        return f"exit code {error.code}"
    return "values"


@pytest.mark.parametrize("classes", [TRAIN, INFERENCE, EVALUATION])
@given(st.data())
def test_whatever_is_typed_the_result_is_values_or_one_sentence(classes: Classes, data: st.DataObject) -> None:
    flags = [f"--{field.name}" for cls in classes for field in fields(cls)]
    argv = data.draw(st.lists(st.sampled_from(flags) | SHORT | LONG, max_size=8))
    assert outcome(argv, classes).startswith(("sentence: ", "exit code 0", "values"))


@given(text=SHORT | LONG, field=st.sampled_from(fields(TrainConfig)))
def test_whatever_the_value_of_an_option_an_error_names_the_flag(text: str, field: Field[Any]) -> None:
    flag = f"--{field.name.replace('_', '-')}"
    assert outcome([f"{flag}={text}"], TRAIN).startswith(("values", f"sentence: {flag}: "))


@dataclass(frozen=True, kw_only=True)
class Renamed:
    """Options that had other names before."""

    parts: int = option(1, "micro-batches", old_names=("accumulate",))
    statistics: str = option(
        "original", "mean and std", choices=("original", "dataset"), old_values={"seed": "original"}
    )
    size: tuple[int, int] = option((4, 3), "not there before")


@dataclass(frozen=True, kw_only=True)
class Mistaken:
    """Two options that other programs call by one name."""

    nproc_per_node: int = option(0, "processes that train", mistaken_names=("workers", "num_workers"))
    threads: int = option(0, "processes that decode", mistaken_names=("workers", "num_workers"))


@pytest.mark.parametrize("flag", ["--workers", "--num-workers", "--num_workers"])
def test_a_name_that_may_mean_two_options_is_rejected_with_both(flag: str) -> None:
    with pytest.raises(ConfigError) as rejected:
        parse("example.py", [flag, "2"], {}, Mistaken)
    assert str(rejected.value) == (
        f"{flag} may mean several options; give --nproc-per-node (processes that train) or --threads (processes that "
        "decode)"
    )


def test_old_names_of_options_and_values_are_accepted_and_not_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse("example.py", ["--accumulate", "4", "--statistics", "seed"], {}, Renamed) == (Renamed(parts=4),)
    assert parse("example.py", ["--parts=4"], {}, Renamed) == (Renamed(parts=4),)
    with pytest.raises(SystemExit):
        parse("example.py", ["--help"], {}, Renamed)
    shown = capsys.readouterr().out
    assert "--parts N" in shown
    assert "accumulate" not in shown


def test_stored_settings_get_the_current_names_and_missing_ones_their_default() -> None:
    stored = {"accumulate": 4, "statistics": "seed", "epochs": 3}
    assert upgrade(stored, Renamed) == {"parts": 4, "statistics": "original", "size": [4, 3], "epochs": 3}
    assert upgrade({"parts": 2, "statistics": "dataset", "size": [1, 1]}, Renamed)["parts"] == 2


@pytest.mark.parametrize("name", ["out\udcff", "a\0b"])
def test_a_folder_whose_name_is_not_utf8_is_rejected_before_any_work(name: str) -> None:
    for argv, environ in (([f"--model-dir={name}"], {}), ([], {"SM_MODEL_DIR": name})):
        with pytest.raises(ConfigError, match="is not UTF-8 or has a zero byte; rename it"):
            parse("train.py", argv, environ, TrainPaths)
