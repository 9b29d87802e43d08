"""Validation, batch inference and the server compute the same probabilities, because they share one forward pass."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.special import softmax

from augmentation import BaseAugmentation
from calibration import TemperatureScaling
from data.batch_draws import Draws
from data.images import Pixels, Preparation, prepare
from inference import inference
from labels import MASKED_FACES
from model import create_model
from model_files import load
from options.inference import InferenceConfig
from predictor import Predictor, fill_up, to_probabilities
from runtime.errors import DeviceError
from server.classifier import Classifier
from server.settings import ServeConfig
from support.serving import InProcess, encoded_image, publish_model

CPU = torch.device("cpu")
PREPARATION = Preparation((32, 24), None, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


@pytest.fixture
def pixels() -> Pixels:
    return np.random.default_rng(0).integers(0, 256, (7, 32, 24, 3), dtype=np.uint8)


def predictor_of(name: str = "BaseModel", dtype: torch.dtype | None = None, tta: str = "none") -> Predictor:
    torch.manual_seed(1)
    return Predictor(create_model(name, MASKED_FACES, size=PREPARATION.size), PREPARATION, CPU, dtype, tta=tta)


def as_batch(pixels: Pixels) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2)


def test_probabilities_are_the_softmax_of_the_normalised_images(pixels: Pixels) -> None:
    predictor = predictor_of()
    images = (pixels / 255 - PREPARATION.mean) / PREPARATION.std
    with torch.no_grad():
        expected = predictor.model.eval()(torch.from_numpy(images).float().permute(0, 3, 1, 2)).softmax(1).numpy()
    found = predictor.probabilities(pixels)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("dtype", [None, torch.bfloat16])
def test_logits_are_float32_without_gradients_whatever_the_number_format(
    pixels: Pixels, dtype: torch.dtype | None
) -> None:
    logits = predictor_of(dtype=dtype).logits(as_batch(pixels))
    assert (logits.shape, logits.dtype, logits.requires_grad) == ((7, 18), torch.float32, False)
    full = predictor_of().logits(as_batch(pixels))
    assert torch.equal(logits, full) == (dtype is None)


@given(st.integers(0, 10_000), st.floats(0.05, 20))
def test_a_temperature_divides_the_logits_and_never_changes_the_predicted_class(seed: int, temperature: float) -> None:
    draw = np.random.default_rng(seed)
    logits = torch.from_numpy(draw.normal(0, 10, (50, 4)).astype(np.float32))
    logits[10:, 1] = logits[10:, 0] + torch.from_numpy(draw.normal(0, 1e-6, 40).astype(np.float32))  # nearly equal
    found = to_probabilities(logits, temperature)
    expected = softmax(logits.double().numpy() / temperature, 1)
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-4, atol=1e-6)
    assert torch.equal(found.argmax(1), logits.softmax(1).argmax(1))


def test_probabilities_of_a_calibrated_model_are_the_same_in_inference_and_over_http(tmp_path: Path) -> None:
    model_dir = publish_model(tmp_path / "model", calibration=TemperatureScaling(2.5, 0.2, 0.1, 84))
    (tmp_path / "eval").mkdir()
    bodies = [encoded_image(seed) for seed in range(9)]
    for number, body in enumerate(bodies):
        (tmp_path / "eval" / f"{number}.jpg").write_bytes(body)
    config = InferenceConfig(device="cpu", threads=1, save_probabilities=True)
    table = pd.read_csv(inference(tmp_path / "eval", model_dir, tmp_path / "output", config))
    found = table.filter(like="probability_").to_numpy()
    model, description = load(model_dir)
    images = np.stack([prepare(body, description.preparation) for body in bodies])
    logits = Predictor(model, description.preparation, CPU, None).logits(as_batch(images))
    np.testing.assert_allclose(found, (logits / 2.5).softmax(1).numpy(), atol=1e-6)
    with InProcess(ServeConfig(model_dir=model_dir, device="cpu")) as server:
        replies = [server.until_ready().post(body, accept="application/json;verbose").json() for body in bodies]
    np.testing.assert_allclose(found, [reply["probabilities"] for reply in replies], atol=1e-5)
    assert table["ans"].tolist() == logits.argmax(1).tolist() == [reply["prediction"] for reply in replies]


def test_dropout_and_batch_statistics_are_those_of_evaluation_even_after_training(pixels: Pixels) -> None:
    predictor = predictor_of("TinyModel")
    before = predictor.probabilities(pixels)
    predictor.model.train()
    np.testing.assert_array_equal(predictor.probabilities(pixels), before)


def test_a_batch_without_memory_for_it_is_predicted_in_micro_batches(
    pixels: Pixels, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    predictor, sizes = predictor_of(), []
    whole, forward = predictor.probabilities(pixels), predictor.model.forward

    def limited(images: torch.Tensor) -> torch.Tensor:
        sizes.append(len(images))
        if len(images) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return forward(images)  # type: ignore[no-any-return]

    monkeypatch.setattr(predictor.model, "forward", limited)
    np.testing.assert_allclose(predictor.probabilities(pixels), whole, rtol=1e-5)
    assert sizes == [7, 4, 2, 2, 2, 1]
    assert "micro-batches of 2 images" in capsys.readouterr().err
    predictor.probabilities(pixels)
    assert sizes[6:] == [2, 2, 2, 1], "the next batch is split at once"


def test_flip_is_the_mean_of_two_forward_passes_of_plain_torch(pixels: Pixels) -> None:
    predictor = predictor_of("TinyModel", tta="flip")
    images = torch.from_numpy((pixels / 255 - PREPARATION.mean) / PREPARATION.std).float().permute(0, 3, 1, 2)
    with torch.no_grad():
        network = predictor.model.eval()
        expected = (network(images).softmax(1) + network(images.flip(3)).softmax(1)) / 2
    found = predictor.probabilities(pixels)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-7)
    np.testing.assert_array_equal(predictor.probabilities(pixels[:, :, ::-1].copy()), found)
    assert np.abs(predictor_of("TinyModel").probabilities(pixels) - found).max() > 1e-5


def test_each_view_of_an_image_is_a_batch_of_its_own(pixels: Pixels) -> None:
    predictor, sizes = predictor_of(tta="flip"), []
    predictor.fills_up = True  # as on a GPU
    predictor.model.register_forward_pre_hook(lambda model, inputs: sizes.append(len(inputs[0])))
    predictor.probabilities(pixels)
    assert sizes == [8, 8], "the sizes that a server has warmed"


def test_a_device_without_memory_for_one_image_is_a_sentence(pixels: Pixels, monkeypatch: pytest.MonkeyPatch) -> None:
    predictor = predictor_of()

    def full(images: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    monkeypatch.setattr(predictor.model, "forward", full)
    with pytest.raises(DeviceError, match="no memory for a single image"):
        predictor.probabilities(pixels)


@pytest.mark.parametrize(("fit", "tta"), [("stretch", "none"), ("crop", "none"), ("pad", "none"), ("pad", "flip")])
def test_validation_inference_and_the_server_give_the_same_bits(
    eval_folder: Callable[..., tuple[Path, list[int]]], fit: str, tta: str, tmp_path: Path
) -> None:
    torch.set_num_threads(1)  # as in all three: sums of several threads have other bits
    data, _ = eval_folder(5)
    model_dir = publish_model(tmp_path / "model", preparation=Preparation((32, 24), (60, 30), fit=fit))
    model, description = load(model_dir)
    names = list(pd.read_csv(data / "info.csv")["ImageID"])
    pixels = np.stack([prepare(data / "images" / name, description.preparation) for name in names])

    predictor = Predictor(model, description.preparation, CPU, None)
    views = (pixels, pixels[:, :, ::-1].copy()) if tta == "flip" else (pixels,)
    validated = torch.stack([predictor.logits(as_batch(view)).softmax(1) for view in views]).mean(0).numpy()
    config = InferenceConfig(device="cpu", save_probabilities=True, tta=tta)
    table = pd.read_csv(inference(data, model_dir, tmp_path / "output", config))
    inferred: NDArray[np.float32] = table.filter(like="probability_").to_numpy().astype(np.float32)
    serving = ServeConfig(model_dir=model_dir, device="cpu", threads=1, tta=tta)
    served = Classifier(serving)(pixels)
    np.testing.assert_array_equal(validated, served)
    np.testing.assert_array_equal(inferred, served)
    with InProcess(serving) as server:
        bodies = [(data / "images" / name).read_bytes() for name in names]
        posted = [server.until_ready().post(body, accept="*/*;verbose").json()["probabilities"] for body in bodies]
    np.testing.assert_allclose(posted, served, rtol=0, atol=1e-5)  # in batches of another size


def test_the_normalisation_is_that_of_training(pixels: Pixels) -> None:
    seen: list[torch.Tensor] = []
    predictor = predictor_of()
    predictor.model.register_forward_pre_hook(lambda model, inputs: seen.append(inputs[0]))
    predictor.probabilities(pixels)
    augmentation = BaseAugmentation(PREPARATION.size, PREPARATION.mean, PREPARATION.std)
    assert torch.equal(seen[0], augmentation.augment(as_batch(pixels), Draws()))


@pytest.mark.parametrize(("count", "filled"), [(1, 1), (2, 2), (3, 4), (17, 32), (32, 32), (33, 64), (1000, 1024)])
def test_on_a_gpu_a_batch_is_filled_up_to_one_of_few_sizes(count: int, filled: int) -> None:
    predictor, sizes = predictor_of(), []
    predictor.fills_up = True  # as on a GPU
    predictor.model.register_forward_pre_hook(lambda model, inputs: sizes.append(len(inputs[0])))
    logits = predictor.logits(torch.zeros((count, 3, 32, 24), dtype=torch.uint8))
    assert (sizes, len(logits)) == ([filled], count)


def test_images_that_fill_up_a_batch_change_no_prediction(pixels: Pixels) -> None:
    predictor, images = predictor_of("TinyModel"), as_batch(pixels)
    expected = predictor.logits(images)
    filled = fill_up(images, 8)
    assert torch.equal(filled[:7], images)
    assert not filled[7:].any()
    assert filled.is_contiguous(memory_format=torch.channels_last)
    predictor.fills_up = True  # as on a GPU
    np.testing.assert_allclose(predictor.logits(images), expected, rtol=1e-4, atol=1e-6)


def test_on_a_cpu_no_batch_is_filled_up(pixels: Pixels) -> None:
    predictor, sizes = predictor_of(), []
    predictor.model.register_forward_pre_hook(lambda model, inputs: sizes.append(len(inputs[0])))
    predictor.probabilities(pixels)
    assert sizes == [7]


def test_the_sizes_to_warm_are_all_that_a_batch_can_have() -> None:
    predictor = predictor_of()
    assert (predictor.batch_sizes(32), predictor.batch_sizes(1)) == ((1, 32), (1,))
    predictor.fills_up = True  # as on a GPU
    assert predictor.batch_sizes(1) == (1,)
    assert predictor.batch_sizes(20) == predictor.batch_sizes(32) == (1, 2, 4, 8, 16, 32)
    assert predictor.batch_sizes(100) == (1, 2, 4, 8, 16, 32, 64, 96, 128)
