"""`make weights` says in plain lines what it fetched, from where, under which licence, and where it is kept."""

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
import safetensors.torch
import timm

import weights
from runtime.errors import JobError
from support.weights_server import serving_weights

COMMAND = Path(__file__).parents[1] / "code" / "weights.py"
NAME = "timm/test_vit.r160_in1k"
PATH = f"/{NAME}/resolve/main/model.safetensors"


def run(*flags: str, cache: Path) -> subprocess.CompletedProcess[str]:
    environ = os.environ | {"WEIGHTS_CACHE": str(cache), "no_proxy": "127.0.0.1"}
    return subprocess.run([sys.executable, str(COMMAND), *flags], env=environ, capture_output=True, text=True)


def test_the_command_fetches_once_and_prints_what_it_is(tmp_path: Path) -> None:
    with serving_weights() as server:
        server.files[PATH] = safetensors.torch.save(timm.create_model("test_vit").state_dict())
        first, second = (run("--model", NAME, "--mirror", server.address, cache=tmp_path) for _ in range(2))
        assert len([request for request in server.requests if request.startswith("GET")]) == 1
    assert (first.returncode, first.stderr, second.returncode) == (0, "", 0), first.stderr
    lines = first.stdout.splitlines()
    assert lines[0] == f"weights of {NAME}: fetched, {len(server.files[PATH]) / 1e6:.1f} MB"
    assert lines[1:3] == [f"source: {server.address}{PATH}", "licence: apache-2.0"]
    assert lines[3].startswith("sha256: ")
    assert lines[4:] == [f"folder: {tmp_path / NAME}"]
    assert second.stdout.splitlines() == [lines[0].replace("fetched", "in the cache already"), *lines[1:]]


def test_other_files_in_the_cache_do_not_disturb_the_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    environ = {"WEIGHTS_CACHE": str(tmp_path)}
    with serving_weights() as server:
        server.files[PATH] = safetensors.torch.save(timm.create_model("test_vit").state_dict())
        weights.main(["--model", NAME, "--mirror", server.address], environ)
    for name in ("config.json", "._test_vit.json"):
        (tmp_path / NAME / name).write_text("{}")
    assert "in the cache already" not in capsys.readouterr().out
    weights.main(["--model", NAME, "--mirror", "http://127.0.0.1:9"], environ)
    assert "in the cache already" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "sentence"),
    [
        (("--model", "resnet19"), r"unknown model 'resnet19' \(did you mean 'resnet1"),
        ((), r"--model: required, such as --model resnet18 \(make weights MODEL=resnet18\)"),
        (("--model", "TinyModel"), "no weights are published for 'TinyModel'"),
        (("--model", "resnet18", "--mirror", "x"), "--mirror: 'x' is not an address"),
    ],
)
def test_a_name_that_is_no_network_is_a_sentence(tmp_path: Path, flags: Sequence[str], sentence: str) -> None:
    with pytest.raises(JobError, match=sentence):
        weights.main(flags, {"WEIGHTS_CACHE": str(tmp_path)})
