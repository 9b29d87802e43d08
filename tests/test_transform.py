"""The table of a transform is the one that inference writes, and its own server lives no longer than the job."""

import json
import os
import pty
import signal
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from PIL import Image

from batch.client import Endpoint, ServerError
from batch.local_server import local_server
from calibration import TemperatureScaling, UnsureThresholds
from data.images import FORMATS, MAX_BYTES
from inference import inference
from labels import LabelScheme
from options.inference import InferenceConfig
from runtime.errors import ModelError
from support.processes import Process
from support.serving import ROOT, publish_model
from support.strange_files import KINDS, make_strange
from support.transform_container import command, forked_servers, outs
from transform import TransformConfig, payload_mb, transform

EvalFolder = Callable[..., tuple[Path, list[int]]]


@pytest.fixture(autouse=True)
def fast_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the servers of transforms in this process as forks; transforms that are commands start a new Python."""
    forked_servers(monkeypatch)


def inferred(
    data: Path, model: Path, output: Path, answers: str = "index", *, status: bool = False
) -> dict[str, bytes]:
    inference(data, model, output, InferenceConfig(device="cpu", answers=answers, status=status))
    return {path.name: path.read_bytes() for path in output.iterdir()}


def test_the_table_is_byte_for_byte_that_of_inference(
    eval_folder: EvalFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, _ = eval_folder(24)
    table = pd.read_csv(data / "info.csv", dtype=str).assign(camera="007", note='a, "b"', empty="")
    names = list(table["ImageID"])
    (data / "images" / names[3]).write_bytes(b"no image")
    (data / "images" / names[5]).unlink()
    (data / "images" / "deep").mkdir()
    (data / "images" / names[7]).rename(data / "images" / "deep" / names[7])
    table.loc[7, "ImageID"] = f"deep/{names[7]}"
    (data / "images" / "more.txt").write_text("a file without a row")
    for index, name in ((9, "0012"), (11, "photo.jfif"), (13, "cafe\u0301.jpg"), (15, "x" * 255)):
        (data / "images" / names[index]).rename(data / "images" / name)
        table.loc[index, "ImageID"] = unicodedata.normalize("NFC", name)
    table.to_csv(data / "info.csv", index=False)
    model = publish_model(tmp_path / "model", LabelScheme("folders", tuple(f"class {label}" for label in range(9))))
    config = TransformConfig(data_dir=data, model_dir=model, output_dir=tmp_path / "transformed")
    transform(config)
    expected = inferred(data, model, tmp_path / "inferred")
    assert {name: (config.output_dir / name).read_bytes() for name in expected} == expected
    assert expected.keys() == {"output.csv", "scheme.json"}
    assert len(outs(config)) == 23
    table.drop(columns=["camera", "note", "empty"]).set_axis(["file", "what it is"], axis=1).to_csv(
        data / "info.csv", index=False
    )
    transform(replace(config, answers="name"))  # resumes: no image is sent again
    expected = inferred(data, model, tmp_path / "named", "name")
    assert {name: (config.output_dir / name).read_bytes() for name in expected} == expected
    found = pd.read_csv(tmp_path / "named" / "output.csv", keep_default_na=False)
    assert list(found.columns) == ["file", "what it is"]
    assert set(found["what it is"]) <= {"", *(f"class {label}" for label in range(9))}
    assert json.loads(expected["scheme.json"])["answers"] == "name"
    assert json.loads(outs(config)[f"{names[3]}.out"])["error"]["code"] == "undecodable_image"
    assert "more.txt.out" not in outs(config)
    captured = capfd.readouterr()
    assert f"no prediction: cannot be read as an image (none of {', '.join(FORMATS)}): {data}" in captured.err
    assert f"no prediction: there is no such image: {data / 'images' / names[5]}" in captured.err
    assert "images_per_second=" in captured.out


def test_another_view_of_an_image_is_asked_for_anew_and_labelled_as_by_inference(
    eval_folder: EvalFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, _ = eval_folder(6)
    config = TransformConfig(data_dir=data, model_dir=publish_model(tmp_path / "model"), output_dir=tmp_path / "out")
    transform(config)
    plain = outs(config)
    monkeypatch.setenv("SERVE_TTA", "flip")
    transform(config)
    asked = InferenceConfig(device="cpu", tta="flip", save_probabilities=True)
    table = pd.read_csv(inference(data, config.model_dir, tmp_path / "inferred", asked)).set_index("ImageID")
    expected = table.filter(like="probability_").max(axis=1)
    found = {name: json.loads(text)["probability"] for name, text in outs(config).items()}
    assert found == pytest.approx({f"{name}.out": value for name, value in expected.items()}, abs=1e-5)
    assert all(text != plain[name] for name, text in outs(config).items())


def test_the_status_of_each_image_is_that_of_inference(
    eval_folder: EvalFolder, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, _ = eval_folder(24)
    names = list(pd.read_csv(data / "info.csv", dtype=str)["ImageID"])
    (data / "images" / names[3]).write_bytes(b"no image")
    (data / "images" / names[5]).unlink()
    (data / "images" / names[7]).write_bytes(b"")
    os.truncate(data / "images" / names[9], MAX_BYTES + 1)
    thresholds = UnsureThresholds(0.9, (0.0, 0.9, 1.01) * 6, (1, 1, 0) * 6)
    scaling = TemperatureScaling(2.0, 0.2, 0.1, 84)
    model = publish_model(tmp_path / "model", calibration=scaling, unsure_thresholds=thresholds)
    config = TransformConfig(data_dir=data, model_dir=model, output_dir=tmp_path / "transformed", status=True)
    transform(config)
    summary = capsys.readouterr().out.splitlines()[-1]
    expected = inferred(data, model, tmp_path / "inferred", status=True)
    assert {name: (config.output_dir / name).read_bytes() for name in expected} == expected
    found = pd.read_csv(config.output_dir / "output.csv", keep_default_na=False)
    assert [found["status"][row] for row in (3, 5, 7, 9)] == ["undecodable_image", "missing", "empty", "too_large"]
    assert {"ok", "unsure"} < set(found["status"])
    counts = f"pictures=24; unreadable=4; unsure={(found['status'] == 'unsure').sum()};"
    assert summary == f"{counts} output: {config.output_dir / 'output.csv'}"
    assert found["ans"][found["status"] == "unsure"].astype(int).between(0, 17).all()


def test_an_image_larger_than_a_request_by_default_is_labelled_as_by_inference(
    eval_folder: EvalFolder, tmp_path: Path
) -> None:
    data, _ = eval_folder(3)
    name = pd.read_csv(data / "info.csv", dtype=str)["ImageID"][1]
    Image.effect_noise((2000, 1200), 64).convert("RGB").save(data / "images" / name, "BMP")
    assert payload_mb(data / "images", [name]) == 7
    model = publish_model(tmp_path / "model")
    config = TransformConfig(data_dir=data, model_dir=model, output_dir=tmp_path / "transformed")
    transform(config)
    assert (config.output_dir / "output.csv").read_bytes() == inferred(data, model, tmp_path / "new")["output.csv"]


def test_on_a_terminal_without_info_csv_and_as_a_command(eval_folder: EvalFolder, tmp_path: Path) -> None:
    data, _ = eval_folder(6)
    (data / "info.csv").unlink()
    model = publish_model(tmp_path / "model")
    config = TransformConfig(data_dir=data, model_dir=model, output_dir=tmp_path / "transformed")
    terminal, line = pty.openpty()
    termios.tcsetwinsize(line, (25, 120))
    done = subprocess.run(**command(config), stdout=subprocess.PIPE, stderr=line, text=True, timeout=300)
    os.close(line)
    shown = os.read(terminal, 1 << 16).decode()
    os.close(terminal)
    assert done.returncode == 0, shown
    assert "6/6" in shown
    assert "images/s" in shown
    expected = inferred(data, model, tmp_path / "inferred")
    assert {name: (config.output_dir / name).read_bytes() for name in expected} == expected


# a running server


def test_a_running_server_names_the_model_that_scheme_json_is_of(eval_folder: EvalFolder, tmp_path: Path) -> None:
    data, _ = eval_folder(3)
    pets, birds = (LabelScheme(name, ("one", "two")) for name in ("pets", "birds"))
    model, other = publish_model(tmp_path / "model", pets), publish_model(tmp_path / "other", birds)
    with local_server(model, 0) as (url, _):
        config = TransformConfig(data_dir=data, model_dir=model, output_dir=tmp_path / "transformed", url=url)
        transform(config)
        with pytest.raises(ModelError, match="another model than the server"):
            transform(replace(config, model_dir=other))
    expected = inferred(data, model, tmp_path / "inferred")
    assert {name: (config.output_dir / name).read_bytes() for name in expected} == expected
    assert "scheme.json" in expected


# its own server


def test_a_model_that_cannot_be_served_ends_the_job_with_the_reason(
    eval_folder: EvalFolder, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    data, _ = eval_folder(2)
    with pytest.raises(ServerError, match="the server exited before it was ready; see its output above"):
        transform(TransformConfig(data_dir=data, model_dir=tmp_path / "none", output_dir=tmp_path / "output"))
    assert "DataError: SM_MODEL_DIR does not exist" in capfd.readouterr().err


def test_settings_that_the_server_rejects_end_the_job(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SERVE_PRECISION", "fp8")
    with pytest.raises(ServerError, match="the server did not start"), local_server(tmp_path, 0):
        pass
    assert "SERVE_PRECISION: unknown value 'fp8'" in capfd.readouterr().err


WATCH = """
import sys, time
from pathlib import Path
from batch.local_server import local_server
with local_server(Path(sys.argv[1]), 0) as (url, is_alive):
    print(url, flush=True)
    time.sleep(60)
"""


def test_the_server_ends_with_the_process_that_started_it_even_if_that_is_killed(tmp_path: Path) -> None:
    model = publish_model(tmp_path / "model")
    environ = os.environ | {"PYTHONPATH": f"{ROOT / 'code'}:{ROOT / 'container'}"}
    line = [sys.executable, "-c", WATCH, str(model)]
    with Process(line, env=environ, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout
        endpoint = Endpoint(process.stdout.readline().strip(), timeout_seconds=2, max_retries=0)
        endpoint.wait(60)
        process.kill()
    ends = time.monotonic() + 20
    while not endpoint._unready():
        assert time.monotonic() < ends
        time.sleep(0.05)


def test_sigterm_ends_the_job_and_its_server(eval_folder: EvalFolder, tmp_path: Path) -> None:
    data, _ = eval_folder(500)
    config = TransformConfig(data_dir=data, model_dir=publish_model(tmp_path / "model"), output_dir=tmp_path / "output")
    with Process(**command(config), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        assert process.stdout
        while not process.stdout.readline().startswith("objects=500"):
            assert process.poll() is None
        process.send_signal(signal.SIGTERM)
        output = process.stdout.read()  # until the server, which shares the pipe, has ended too
    assert process.returncode == 128 + signal.SIGTERM
    assert "Traceback" not in output
    assert len(outs(config)) < 500


def test_a_folder_with_files_that_are_no_files_gives_the_table_of_inference(
    eval_folder: EvalFolder, tmp_path: Path
) -> None:
    data, _ = eval_folder(12)
    names = list(pd.read_csv(data / "info.csv", dtype=str)["ImageID"])
    for name, kind in zip(names, KINDS, strict=False):
        make_strange(data / "images" / name, kind)
    (data / "images" / names[6]).unlink()
    (data / "images" / names[6]).mkdir()
    (data / "images" / names[7]).write_bytes(b"")
    model = publish_model(tmp_path / "model", LabelScheme("folders", ("cat", "dog")))
    config = TransformConfig(data_dir=data, model_dir=model, output_dir=tmp_path / "transformed")
    transform(config)
    expected = inferred(data, model, tmp_path / "inferred")
    assert {name: (config.output_dir / name).read_bytes() for name in expected} == expected
    missing = [row.endswith(",") for row in expected["output.csv"].decode().splitlines()[1:]]
    assert missing == [True] * len(KINDS) + [False, True, True] + [False] * 4
