"""scheme.json of a transform through a running server is that of the server's model, or its absence is announced."""

import hashlib
import json
import tarfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from batch.client import Parameters
from labels import MASKED_FACES, LabelScheme
from runtime.errors import ModelError
from support.serving import publish_model
from support.transform_container import Container
from transform import TransformConfig, transform

PETS = LabelScheme("pets", tuple(f"pet {number}" for number in range(20)))
ANNOUNCED = "scheme.json is missing, without it these classes cannot be evaluated: there is no model at --model-dir: "


def serve(container: Container, model: Path | None, scheme: LabelScheme = PETS) -> None:
    """Let the container have this model, and predict as the server of this image; without one, it names no model."""
    sha256 = hashlib.sha256((model / "model.json").read_bytes()).hexdigest() if model else ""
    container.digest = f"{sha256} fp32 none" if model else ""
    container.predict = lambda size: {"prediction": size, "label": scheme.classes[size]}


def archived(model: Path) -> Path:
    """Put a model into a model.tar.gz in a folder of its own, as SageMaker leaves it; return the folder."""
    folder = model.with_name(f"{model.name}-archived")
    folder.mkdir()
    with tarfile.open(folder / "model.tar.gz", "w:gz") as archive:
        archive.add(model, ".")
    return folder


@pytest.mark.parametrize("place", [lambda model: model, archived, lambda model: archived(model) / "model.tar.gz"])
def test_the_scheme_is_that_of_the_model_in_a_folder_or_an_archive(
    config: TransformConfig,
    container: Container,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    place: Callable[[Path], Path],
) -> None:
    model = publish_model(tmp_path / "model", PETS)
    serve(container, model)
    transform(replace(config, model_dir=place(model)))
    assert json.loads((config.output_dir / "scheme.json").read_text()) == PETS.to_dict()
    assert capsys.readouterr().err == ""


def test_another_model_than_that_of_the_server_is_rejected_before_anything_is_sent(
    config: TransformConfig, container: Container, tmp_path: Path
) -> None:
    serve(container, publish_model(tmp_path / "served", PETS))
    other = publish_model(tmp_path / "other", LabelScheme("birds", PETS.classes))
    sentence = (
        r"--model-dir holds another model than the server at --url \(sha256 of model.json \w{12}, of the server's"
    )
    with pytest.raises(ModelError, match=rf"^{sentence} \w{{12}}\); pass the server's model.*: {other}$"):
        transform(replace(config, model_dir=other))
    assert not container.sizes
    assert not config.output_dir.exists()


@pytest.mark.parametrize("name", ["best.pth", "model.tar.gz", "model.json", "notes.txt"])
def test_a_model_that_cannot_be_read_ends_the_job_before_anything_is_sent(
    config: TransformConfig, container: Container, tmp_path: Path, name: str
) -> None:
    serve(container, publish_model(tmp_path / "served", PETS))
    config.model_dir.mkdir()
    (config.model_dir / name).write_text("not a model")
    with pytest.raises(ModelError, match=str(config.model_dir)):
        transform(config)
    assert not container.sizes


@pytest.mark.parametrize("is_there", [False, True])
@pytest.mark.parametrize(("scheme", "is_announced"), [(PETS, True), (MASKED_FACES, False)])
def test_without_the_model_a_missing_scheme_is_announced_unless_evaluation_assumes_it(
    config: TransformConfig,
    container: Container,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    is_there: bool,
    scheme: LabelScheme,
    is_announced: bool,
) -> None:
    serve(container, publish_model(tmp_path / "served", scheme), scheme)
    if is_there:
        config.model_dir.mkdir()
    transform(config)
    assert not (config.output_dir / "scheme.json").exists()
    assert capsys.readouterr().err == (f"{ANNOUNCED}{config.model_dir}\n" if is_announced else "")


def test_a_server_that_does_not_name_its_model_is_not_compared_with_a_warning(
    config: TransformConfig, container: Container, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = publish_model(tmp_path / "model", PETS)
    serve(container, None)
    transform(replace(config, model_dir=model))
    assert json.loads((config.output_dir / "scheme.json").read_text()) == PETS.to_dict()
    assert capsys.readouterr().err == (
        "warning: the server does not say which model it has, so scheme.json is that of --model-dir without a "
        f"comparison: {model}\n"
    )


def test_the_digest_of_another_server_is_not_taken_for_that_of_a_model() -> None:
    own = "0123456789abcdef" * 4
    assert Parameters(digest=f"{own} bf16 flip").model_sha256 == Parameters(digest=own).model_sha256 == own
    assert {Parameters(digest=text).model_sha256 for text in ("", "one", own[1:], f"{own}0", f"sha256:{own}")} == {""}
