"""An ensemble is one model folder, and its probabilities are the mean of those of its members."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import safetensors.torch
import torch

from augmentation import BaseAugmentation
from calibration import TemperatureScaling
from data.images import Pixels, Preparation
from description import DESCRIPTION, Description
from exporting.onnx_export import export
from inference import inference, load_model
from labels import MASKED_FACES, LabelScheme
from model_files import WEIGHTS, load, publish, publish_ensemble
from options.inference import InferenceConfig
from predictor import VIEWS, Predictor
from runtime.errors import JobError, ModelError
from server.classifier import Classifier
from server.settings import ServeConfig
from support.serving import publish_model
from support.transform_container import forked_servers
from transform import TransformConfig, transform

CPU = torch.device("cpu")
SIZE = (32, 24)
OURS = Preparation(SIZE, (60, 44), (0.5, 0.4, 0.3), (0.2, 0.3, 0.4), "crop")
ITS = replace(OURS, mean=(0.1, 0.6, 0.2), std=(0.3, 0.1, 0.5))
EvalFolder = Callable[..., tuple[Path, list[int]]]


def publish_member(folder: Path, name: str = "BaseModel", preparation: Preparation = OURS, **entries: Any) -> Path:
    description = replace(Description(name, "joint", MASKED_FACES, preparation, {"f1": 0.5}, {"lr": 0.1}), **entries)
    torch.manual_seed(len(folder.name))
    publish(folder, description.build().state_dict(), description)
    return folder


@pytest.fixture
def members(tmp_path: Path) -> list[Path]:
    """Publish three models: of two architectures, two heads, and one with a normalisation of its own."""
    return [
        publish_model(tmp_path / "one", preparation=OURS),
        publish_member(tmp_path / "second", head="factored", preparation=ITS),
        publish_member(tmp_path / "the third", metrics={"f1": 0.7, "accuracy": 1.0}),
    ]


@pytest.fixture
def ensemble(members: list[Path], tmp_path: Path) -> Path:
    publish_ensemble(tmp_path / "ensemble", members)
    return tmp_path / "ensemble"


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (7, *SIZE, 3), dtype=np.uint8)


@pytest.mark.parametrize("tta", VIEWS)
def test_its_probabilities_are_the_mean_of_those_of_plain_torch(
    members: list[Path], ensemble: Path, pixels: Pixels, tta: str
) -> None:
    found = []
    for member in members:
        network, description = load(member)
        preparation = description.preparation
        images = (torch.from_numpy(pixels) / 255 - torch.tensor(preparation.mean)) / torch.tensor(preparation.std)
        images = images.permute(0, 3, 1, 2)
        for view in (images, images.flip(3))[: len(VIEWS[tta])]:
            with torch.no_grad():
                found.append(network(view).softmax(1))
    network, description = load(ensemble)
    predictor = Predictor(network, description.preparation, CPU, None, tta=tta)
    np.testing.assert_allclose(predictor.probabilities(pixels), torch.stack(found).mean(0), rtol=1e-4, atol=1e-6)


def test_each_member_has_its_own_temperature(members: list[Path], tmp_path: Path, pixels: Pixels) -> None:
    found = []
    for member, temperature in zip(members, (0.5, 1.0, 4.0), strict=True):
        network, description = load(member)
        scaling = TemperatureScaling(temperature, 0.2, 0.1, 84)
        publish(member, network.state_dict(), replace(description, calibration=scaling))
        network, description = load(member)
        predictor = Predictor(network, description.preparation, CPU, None, temperature=description.temperature)
        found.append(predictor.probabilities(pixels))
    publish_ensemble(tmp_path / "ensemble", members)
    network, description = load(tmp_path / "ensemble")
    assert description.temperature == 1
    predictor = Predictor(network, description.preparation, CPU, None, temperature=description.temperature)
    np.testing.assert_allclose(predictor.probabilities(pixels), np.mean(found, 0), rtol=1e-4, atol=1e-6)


def test_members_that_are_sure_of_different_classes_leave_both_as_likely(tmp_path: Path, pixels: Pixels) -> None:
    folders = []
    for label in (3, 5):
        description = Description("BaseModel", "joint", MASKED_FACES, OURS)
        state = description.build().state_dict()
        state["fc.bias"][label] = 1000.0  # every other probability is 0 in float32
        folders.append(tmp_path / f"sure of {label}")
        publish(folders[-1], state, description)
    publish_ensemble(tmp_path / "ensemble", folders)
    network, description = load(tmp_path / "ensemble")
    found = Predictor(network, description.preparation, CPU, None).probabilities(pixels)
    expected = np.zeros((7, 18), np.float32)
    expected[:, [3, 5]] = 0.5
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_inference_server_and_batch_transform_take_it_like_any_other_model(
    eval_folder: EvalFolder,
    members: list[Path],
    ensemble: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    forked_servers(monkeypatch)
    data, _ = eval_folder(6)
    asked = InferenceConfig(device="cpu", save_probabilities=True)

    def inferred(model: Path) -> pd.DataFrame:
        table = pd.read_csv(inference(data, model, tmp_path / "output" / model.name, asked), index_col="ImageID")
        return table.filter(like="probability_")

    first, second, third = map(inferred, members)
    expected = (first + second + third) / 3
    np.testing.assert_allclose(inferred(ensemble), expected, rtol=1e-4, atol=1e-6)
    config = TransformConfig(data_dir=data, model_dir=ensemble, output_dir=tmp_path / "transformed")
    transform(config)
    for name, row in expected.iterrows():
        response = json.loads((config.output_dir / "transform" / f"{name}.out").read_text())
        assert response["probability"] == pytest.approx(row.max(), abs=1e-5)
    classifier = Classifier(ServeConfig(model_dir=ensemble, device="cpu"))
    classifier.warm_up()
    assert classifier.name == "Ensemble, 18 classes"
    assert load_model(ensemble, 18)(torch.zeros(1, 3, *SIZE)).shape == (1, 18)


@pytest.mark.slow
def test_it_is_exported_like_any_other_model(ensemble: Path, tmp_path: Path) -> None:
    export(ensemble, tmp_path / "golden", "flip")  # raises an error unless onnxruntime and torch agree
    assert (ensemble / "model.onnx").stat().st_size > (ensemble / WEIGHTS).stat().st_size // 2


def test_its_folder_holds_every_member_with_one_digest(members: list[Path], ensemble: Path) -> None:
    assert sorted(path.name for path in ensemble.iterdir()) == [DESCRIPTION, WEIGHTS]
    tensors = safetensors.torch.load_file(ensemble / WEIGHTS)
    record = json.loads((ensemble / DESCRIPTION).read_text())
    for number, member in enumerate(members):
        for name, tensor in safetensors.torch.load_file(member / WEIGHTS).items():
            assert torch.equal(tensors.pop(f"networks.{number}.{name}"), tensor)
        described = json.loads((member / DESCRIPTION).read_text())
        assert record["members"][number] == {key: described[key] for key in record["members"][number]}
    assert not tensors
    assert (record["metrics"], record["preparation"]) == ({}, json.loads(json.dumps(OURS.to_dict())))
    publish_ensemble(ensemble, members[1:])
    assert load(ensemble)[1].metrics == {"f1": 0.6}, "the mean of what all members have"
    publish_ensemble(ensemble, members[1:], {"f1": 0.9})
    assert load(ensemble)[1].metrics == {"f1": 0.9}


def test_models_that_do_not_belong_together_are_rejected_with_what_differs(
    members: list[Path], ensemble: Path, tmp_path: Path
) -> None:
    pets = LabelScheme("pets", ("cat", "dog"))
    other = publish_member(tmp_path / "pets", scheme=pets)
    larger = publish_member(tmp_path / "larger", preparation=replace(OURS, size=(64, 48)))
    stretched = publish_member(tmp_path / "stretched", preparation=replace(OURS, fit="stretch"))
    grey, white = (
        publish_member(tmp_path / f"{value}", preparation=replace(OURS, fit="pad", mean=(value, value, value)))
        for value in (0.5, 1.0)
    )
    for folders, sentence in (
        ((members[0], other), r"need the same classes, but .*pets has 2 \(cat, dog\) and .*one has 18 \(mask worn, "),
        ((members[0], larger), r"differ in size: \(64, 48\) and \(32, 24\)"),
        ((members[0], stretched), "differ in fit: stretch and crop"),
        ((grey, white), r"differ in fill: \(255, 255, 255\) and \(128, 128, 128\)"),
        ((members[0], ensemble), "a member is an ensemble itself"),
        ((members[0],), "an ensemble of 1 models, expected 2 to 100"),
        ((members[0], tmp_path / "nothing"), "no model, expected a folder"),
    ):
        with pytest.raises(ModelError, match=sentence):
            publish_ensemble(tmp_path / "new", folders)
    assert not (tmp_path / "new").exists()


def change(folder: Path, **entries: Any) -> None:
    record = json.loads((folder / DESCRIPTION).read_text())
    (folder / DESCRIPTION).write_text(json.dumps(record | entries))


def test_a_description_of_an_ensemble_made_by_hand_is_rejected(ensemble: Path) -> None:
    record = json.loads((ensemble / DESCRIPTION).read_text())
    members, preparation = record["members"], record["preparation"]
    wide = [{**member, "preparation": {**preparation, "size": [5000, 24]}} for member in members]
    for entries, sentence in (
        ({"members": members[:1]}, "an ensemble of 1 models"),
        ({"members": members * 40}, "an ensemble of 120 models"),
        ({"members": members[:2]}, "another architecture"),
        ({"members": [members[0], members[2], members[1]]}, "another|shape|width"),
        ({"members": [members[0], {**members[1], "members": members}, members[2]]}, "a member is an ensemble"),
        ({"members": [*members[:2], {**members[2], "architecture": "Ensemble"}]}, "unknown model 'Ensemble'"),
        ({"members": ["a", "b"]}, "not one of this job"),
        ({"members": 3}, "not one of this job"),
        ({"members": wide}, "not that of its first member"),
        ({"members": wide, "preparation": wide[0]["preparation"]}, "is not that of an image"),
        ({"preparation": {**preparation, "mean": [0.1, 0.1, 0.1]}}, "not that of its first member"),
    ):
        change(ensemble, **(record | entries))
        with pytest.raises(JobError, match=sentence):
            load(ensemble)
    change(ensemble, **record)
    assert len(load(ensemble)[1].members) == 3


def test_a_model_without_members_says_nothing_of_them(members: list[Path]) -> None:
    assert "members" not in json.loads((members[0] / DESCRIPTION).read_text())
    assert load(members[0])[1].members == ()


def test_the_normalisation_of_a_member_is_bit_for_bit_its_own_where_it_is_that_of_the_ensemble(
    members: list[Path], ensemble: Path, pixels: Pixels
) -> None:
    seen: list[torch.Tensor] = []
    network, description = load(ensemble)
    for member in network.get_submodule("networks").children():
        member.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    Predictor(network, description.preparation, CPU, None).probabilities(pixels)
    batch = torch.from_numpy(pixels).permute(0, 3, 1, 2)
    first, second, third = (BaseAugmentation.of(load(member)[1].preparation).normalize(batch) for member in members)
    assert torch.equal(seen[0], first)
    torch.testing.assert_close(seen[1], second)
    assert torch.equal(seen[2], third)
