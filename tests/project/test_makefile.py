"""`make` passes on what it is given: options to the command, settings to the server and compose, folders to both."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from support.making import HOSTILE, ROOT, Make, options_of

AUTO = ("--recipe", "auto")  # of `make train` and `make cv`


@pytest.fixture
def make(tmp_path: Path) -> Make:
    return Make(tmp_path)


@pytest.fixture
def out(tmp_path: Path) -> str:
    return f"OUT={tmp_path / 'out'}"


@pytest.mark.parametrize(
    ("words", "program", "options"),
    [
        (["train", "EPOCHS=3"], "train.py", [*AUTO, "--epochs", "3"]),
        (["train", "ARGS=--resize 96 72"], "train.py", [*AUTO, "--resize", "96", "72"]),
        (["train", "ARGS=--name *"], "train.py", [*AUTO, "--name", "*"]),
        (["train", "WORKERS=2", "NUM_WORKERS=3"], "train.py", [*AUTO, "--nproc-per-node", "2", "--num-workers", "3"]),
        (["train", "RECIPE=finetune"], "train.py", [*AUTO, "--recipe", "finetune"]),  # the last one counts
        (["train", "infer", "EPOCHS=3"], "transform.py", []),
        (["cv", "FOLDS=3", "EPOCHS=2"], "cv.py", [*AUTO, "--folds", "3", "--epochs", "2"]),
        (["cv", "infer", "FOLDS=3"], "transform.py", []),
        (["infer", "MAX_PAYLOAD_MB=20"], "transform.py", ["--max-payload-mb", "20"]),
        (["infer", "BAD_INPUT=fail", "SERVE_PRECISION=bf16"], "transform.py", []),
        (["evaluate", "BOOTSTRAP=9"], "evaluation.py", ["--bootstrap", "9"]),
        (["audit", "MIN_SIDE=9"], "audit.py", ["--min-side", "9"]),
        (["export", "GOLDEN_DIR=pack"], "export.py", ["--golden-dir", "pack"]),
        (["serve", "PRECISION=bf16"], "serve.py", ["--precision", "bf16"]),
        (["serve", "SERVE_PRECISION=bf16", "PORT=81"], "serve.py", []),
    ],
)
def test_a_name_and_value_is_an_option_unless_it_is_a_setting(
    make: Make, out: str, words: list[str], program: str, options: list[str]
) -> None:
    assert options_of(make.call(program, *words, "DATA=/", out, "RUNTIME=host"), program) == options


def targets_that_test() -> list[str]:
    return re.findall(r"^((?:test|chaos|fuzz|acceptance)[a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)


@pytest.mark.parametrize("target", targets_that_test())
def test_every_command_that_tests_takes_options_of_pytest(make: Make, target: str) -> None:
    call = make.call("bin/pytest", target, "ARGS=--cov -k batch")
    assert options_of(call, "bin/pytest")[-3:] == ["--cov", "-k", "batch"]


def test_what_was_given_to_the_make_of_the_tests_reaches_no_make_of_a_test(
    make: Make, out: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CI runs `make test ARGS=--cov`, which make hands on to every make below it, in both of these."""
    monkeypatch.setenv("MAKEFLAGS", " -- ARGS=--cov")
    monkeypatch.setenv("ARGS", "--cov")
    assert "--cov" not in make.call("train.py", "train", "RUNTIME=host", "DATA=.", out)["words"]


def test_there_are_tests_of_every_kind() -> None:
    assert len(targets_that_test()) == 9


def test_weights_are_fetched_for_a_model_also_before_a_training(make: Make, out: str, tmp_path: Path) -> None:
    call = make.call("weights.py", "weights", "MODEL=resnet18", f"WEIGHTS_CACHE={tmp_path}", "MIRROR=http://x")
    assert options_of(call, "weights.py") == ["--model", "resnet18", "--mirror", "http://x"]
    assert call["environ"]["WEIGHTS_CACHE"] == str(tmp_path)
    make.record.unlink()
    call = make.call("weights.py", "weights", "train", "MODEL=resnet18", "EPOCHS=3", "DATA=/", out, "RUNTIME=host")
    assert options_of(call, "weights.py") == ["--model", "resnet18"]


def test_a_name_that_is_no_option_reaches_the_command_which_rejects_it(make: Make, out: str) -> None:
    call = make.call("train.py", "train", "SM_MODEL_DIR=elsewhere", "DATA=/", out, "RUNTIME=host")
    assert options_of(call, "train.py")[2] == "--sm-model-dir"


@pytest.mark.parametrize("runtime", ["host", "docker"])
@pytest.mark.parametrize("name", ["DATA", "OUT", "NAME", "ARGS"])
def test_no_character_of_a_value_means_anything_to_a_shell(make: Make, tmp_path: Path, name: str, runtime: str) -> None:
    given = {"DATA": str(tmp_path), "OUT": str(tmp_path / "out"), "NAME": "exp", "ARGS": ""}
    given |= {name: str(tmp_path / HOSTILE) if name in ("DATA", "OUT") else HOSTILE}
    Path(given["DATA"]).mkdir(parents=True, exist_ok=True)
    program = "train.py" if runtime == "host" else "compose run"
    call = make.call(program, "train", *(f"{key}={value}" for key, value in given.items()), f"RUNTIME={runtime}")
    assert {key: call["environ"][key] for key in given} == given
    assert call["words"][-len(["--name", "exp", *given["ARGS"].split()]) :] == [
        *("--name", given["NAME"]),
        *given["ARGS"].split(),
    ]
    assert (Path(given["OUT"]) / "model").is_dir()
    assert call["environ"]["SM_CHANNEL_TRAIN"] == f"{given['DATA']}/train"


@pytest.mark.parametrize("runtime", ["host", "docker"])
@pytest.mark.parametrize("command", ["train", "cv"])
def test_a_folder_for_validation_is_used_where_it_is_there(
    make: Make, tmp_path: Path, command: str, runtime: str
) -> None:
    data, out = tmp_path / HOSTILE, f"OUT={tmp_path / 'out'}"
    data.mkdir(parents=True)
    names = ("SM_CHANNEL_VALIDATION", "COMPOSE_FILE")
    call = make.calls(command, f"DATA={data}", out, f"RUNTIME={runtime}")[-1]
    assert not [name for name in names if name in call["environ"]]
    (data / "validation").mkdir()
    call = make.calls(command, f"DATA={data}", out, f"RUNTIME={runtime}")[-1]
    files = "docker-compose.yml:container/local/validation.yml"
    assert [call["environ"][name] for name in names] == [f"{data}/validation", files]
    assert all((ROOT / name).is_file() for name in files.split(":"))


def test_a_folder_for_validation_is_submitted_where_it_is_there(make: Make, tmp_path: Path) -> None:
    assert "--validation-data" not in make.calls("submit", f"DATA={tmp_path}")[-1]["words"]
    (tmp_path / "validation").mkdir()
    words = make.calls("submit", f"DATA={tmp_path}")[-1]["words"]
    assert words[words.index("--validation-data") + 1] == f"{tmp_path}/validation"


@pytest.mark.parametrize("runtime", ["host", "docker"])
def test_the_audit_gets_every_folder_of_data_that_is_there_and_those_of_out(
    make: Make, tmp_path: Path, runtime: str
) -> None:
    """A folder that is named and not there would be reported as left out."""
    out, program = tmp_path / "out", "audit.py" if runtime == "host" else "compose run --rm audit"
    words = ("audit", f"DATA={tmp_path}", f"OUT={out}", f"RUNTIME={runtime}")
    environ = make.call(program, *words)["environ"]
    assert environ["SM_CHANNEL_TRAIN"] == f"{tmp_path}/train"
    assert environ["SM_CHANNEL_MODEL"] == f"{out}/model"
    assert environ["SM_OUTPUT_DATA_DIR"] == f"{out}/output/data"
    assert environ["SM_AUDIT_DIR"] == f"{out}/audit"
    assert all((out / name).is_dir() for name in ("model", "output", "audit"))
    optional = ("validation", "eval", "labels")
    assert not [name for name in optional if f"SM_CHANNEL_{name.upper()}" in environ]
    for name in optional:
        (tmp_path / name).mkdir()
    environ = make.calls(*words)[-1]["environ"]
    assert all(environ[f"SM_CHANNEL_{name.upper()}"] == f"{tmp_path}/{name}" for name in optional)


def test_the_export_works_on_the_model_of_out(make: Make, tmp_path: Path) -> None:
    environ = make.call("export.py", "export", f"OUT={tmp_path}")["environ"]
    assert environ["SM_MODEL_DIR"] == f"{tmp_path}/model"
    assert environ["SM_GOLDEN_DIR"] == f"{tmp_path}/golden"


def test_clean_removes_the_folder_that_was_named_and_no_part_of_its_name(make: Make, tmp_path: Path) -> None:
    for name in ("a", "a b"):
        (tmp_path / name).mkdir()
    done = make.run("--dry-run", "clean", f"OUT={tmp_path / 'a b'}", f"DEMO={tmp_path / 'none'}")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("rm ")]
    line = line.partition(" .coverage")[0]
    environ = {"OUT": str(tmp_path / "a b"), "DEMO": str(tmp_path / "none")}
    subprocess.run(["/bin/bash", "-fc", line], env=os.environ | environ, check=True)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("a")] == ["a"]


@pytest.mark.parametrize("runtime", ["host", "docker"])
def test_the_server_gets_its_port_and_its_options_wherever_it_runs(make: Make, runtime: str) -> None:
    program = "serve.py" if runtime == "host" else "compose run"
    call = make.call(program, "serve", "PRECISION=bf16", "PORT=81", f"RUNTIME={runtime}")
    assert call["environ"]["PORT"] == "81"
    assert call["words"][-2:] == ["--precision", "bf16"]


def test_the_address_of_the_server_may_be_given_as_its_own_variable(make: Make) -> None:
    def address(*words: str, **environ: str) -> tuple[str, str]:
        call = make.calls("serve", "RUNTIME=host", *words, **environ)[-1]
        return call["environ"]["SERVE_HOST"], call["environ"]["SAGEMAKER_BIND_TO_PORT"]

    assert address("SAGEMAKER_BIND_TO_PORT=81", "SERVE_HOST=0.0.0.0") == ("0.0.0.0", "81")  # noqa: S104  passed on only
    assert address(SAGEMAKER_BIND_TO_PORT="82") == ("127.0.0.1", "82")


def test_settings_reach_what_make_starts(make: Make, out: str) -> None:
    given = {"BAD_INPUT": "fail", "SHM_SIZE": "2g", "SERVE_PRECISION": "bf16"}
    words = [f"{name}={value}" for name, value in given.items()]
    call = make.call("train.py", "train", "DATA=/", out, "RUNTIME=host", *words)
    assert {name: call["environ"][name] for name in given} == given


def test_a_tilde_that_the_shell_left_is_the_home_folder(make: Make, tmp_path: Path) -> None:
    call = make.call("serve.py", "serve", "DATA=~/faces", "OUT=~/my out", "RUNTIME=host")
    assert call["environ"]["SM_CHANNEL_TRAIN"] == "/someone/faces/train"
    assert call["environ"]["SM_MODEL_DIR"] == "/someone/my out/model"
    call = make.calls("demo", "DEMO=~/faces")[-1]
    assert call["environ"]["DEMO"] == call["environ"]["DATA"] == "/someone/faces"  # clean removes DEMO
    assert call["environ"]["OUT"] == "/someone/faces-out"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("RUNTIME=Docker", "RUNTIME is 'Docker', expected docker or host"),
        ("RUNTIME=", "RUNTIME is '', expected docker or host"),
        ("GPU=1", "GPU is '1', expected -gpu, or nothing to use none"),
    ],
)
def test_a_runtime_or_a_gpu_that_means_nothing_is_rejected(make: Make, out: str, word: str, said: str) -> None:
    words = {"RUNTIME": "RUNTIME=docker"} | {word.partition("=")[0]: word}
    done = make.run("train", "DATA=/", out, *words.values())
    assert done.returncode == 2
    assert said in done.stderr
    assert make.run("help", word).returncode == 0


def test_docker_gets_whole_paths_and_s3_stays_as_it_is(make: Make) -> None:
    call = make.call("compose run", "serve", "OUT=some where", "RUNTIME=docker")
    assert call["environ"]["OUT"] == f"{ROOT}/some where"
    call = make.call("submit.py", "submit", "DATA=s3://bucket/faces", "RUNTIME=docker", "SUBMIT=--dry-run --spot")
    assert call["words"][2:] == ["train", "--data", "s3://bucket/faces/train", "--dry-run", "--spot", "--"]


@pytest.mark.parametrize(
    ("words", "commands"),
    [
        (["push"], ["push --local-image mask-classifier --tag 1"]),
        (["submit", "EPOCHS=3"], ["train --data faces/train --tag 1 -- --epochs 3"]),
        (
            ["submit-infer", "JOB=j-1", "MAX_CONCURRENT_TRANSFORMS=8"],
            ["transform --data faces/eval --model j-1 --tag 1 --max-concurrent-transforms 8"],
        ),
        (
            ["submit-evaluate", "JOB=j-2", "BOOTSTRAP=9"],
            [
                "download j-2 --to out/j-2",
                "evaluate --predictions out/j-2 --ground-truth faces/gt --tag 1 -- --bootstrap 9",
            ],
        ),
        (
            ["tune", "SEARCH=lr=0.1:1", "EPOCHS=3"],
            ["tune --data faces/train --search lr=0.1:1 --tag 1 -- --epochs 3"],
        ),
    ],
)
def test_the_commands_for_sagemaker_are_those_of_submit(make: Make, words: list[str], commands: list[str]) -> None:
    calls = make.calls(*words, "DATA=faces", "SUBMIT=--tag 1", "RUNTIME=host")
    called = [call for call in calls if "submit.py" in " ".join(call["words"])]
    assert [" ".join(options_of(call, "submit.py")) for call in called] == commands


def test_the_demo_touches_no_results_but_its_own(make: Make, tmp_path: Path) -> None:
    def checkpoints(*words: str, **environ: str) -> str:
        calls = make.calls(*words, "RUNTIME=host", **environ)
        call = [call for call in calls if "code/train.py" in call["words"]][-1]
        return str(call["environ"]["SM_CHECKPOINT_DIR"])

    mine = str(tmp_path / "mine")
    assert checkpoints("demo") == "demo-out/checkpoints"
    assert checkpoints("demo", f"OUT={mine}") == f"{mine}/checkpoints"
    assert checkpoints("demo", OUT=mine) == f"{mine}/checkpoints"
    assert checkpoints("train", "DATA=/", f"OUT={mine}") == f"{mine}/checkpoints"


def test_the_image_is_built_as_sagemaker_takes_it_and_carries_the_version(make: Make) -> None:
    build = make.call("build", "image", "BASE_IMAGE=debian:12")["words"]
    assert build[1:5] == ["build", "--provenance=false", "--output", "type=docker"]
    version = next(word for word in build if word.startswith("VERSION="))
    assert f'version = "{version.partition("=")[2]}"' in (ROOT / "pyproject.toml").read_text()
    assert "BASE_IMAGE=debian:12" in build


def test_data_must_be_given_and_be_a_folder(make: Make) -> None:
    assert "DATA is not set" in make.run("train", "RUNTIME=host").stderr
    done = make.run("train", "DATA=/not/there", "RUNTIME=host")
    assert done.returncode == 2
    assert "DATA is not a folder, expected train/, eval/ and gt/ in it: /not/there" in done.stderr


def test_no_recipe_is_longer_than_a_line_of_code() -> None:
    assert [line for line in (ROOT / "Makefile").read_text().splitlines() if len(line) > 132] == []
