"""Mixup and CutMix equal torchvision's with the same parameters, and lam is the share that is really left."""

import pytest
import torch
from torch import Tensor
from torchvision.transforms import v2

from data import mixing
from data.mixing import Mixer


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def mix(mixer: Mixer, images: Tensor, draw: torch.Generator) -> tuple[Tensor, Tensor, float]:
    """Mix images; return them, the permutation, and lam."""
    draws = mixer.draw(images.shape, draw)
    (labels, lam), *others = mixer.targets(torch.arange(len(images)), draws)
    assert torch.equal(labels, torch.arange(len(images)))
    permutation = others[0][0] if others else labels
    return mixer.mix(images, draws), permutation, 1.0 if lam is None else float(lam)


def constant(count: int = 16, height: int = 20, width: int = 15) -> Tensor:
    """Return images (count, 3, height, width); the one at index n is filled with n."""
    return torch.arange(count).float().view(-1, 1, 1, 1).expand(count, 3, height, width)


@pytest.mark.parametrize("shape", ["box", "strip"])
def test_the_lam_of_cutmix_is_the_area_that_is_really_left(shape: str) -> None:
    images = constant()
    for seed in range(40):
        mixed, permutation, lam = mix(Mixer(cutmix=1.0, shape=shape), images, generator(seed))
        own = mixed == images
        assert torch.equal(permutation.sort().values, torch.arange(16))
        assert torch.equal(mixed[~own], images[permutation][~own])
        moved = permutation != torch.arange(16)
        assert own[moved].float().mean().item() == pytest.approx(lam, abs=1e-6)
        if shape == "strip":
            assert torch.equal(own, own[:, :, :1].expand_as(own))  # a column is pasted completely or not at all


def test_mixup_blends_every_image_with_its_permuted_one_by_lam() -> None:
    images = torch.rand((16, 3, 4, 4), generator=generator())
    mixed, permutation, lam = mix(Mixer(mixup=0.4), images, generator())
    assert torch.equal(permutation.sort().values, torch.arange(16))
    assert 0 <= lam <= 1
    torch.testing.assert_close(mixed, lam * images + (1 - lam) * images[permutation])


@pytest.mark.parametrize("alpha", [0.001, 0.01, 0.2, 1.0, 5.0])
def test_lam_is_beta_distributed(alpha: float) -> None:
    draw, images = generator(), constant(2, 1, 1)
    lams = torch.tensor([mix(Mixer(mixup=alpha), images, draw)[2] for _ in range(3000)])
    assert lams.mean() == pytest.approx(0.5, abs=0.03)
    assert lams.var() == pytest.approx(1 / (4 * (2 * alpha + 1)), rel=0.1)  # near 1/4: nearly all are 0 or 1


def test_mixing_equals_that_of_torchvision(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compare pair by pair: torchvision mixes an image with the one before it, ours with a permutation."""
    images = torch.rand((16, 3, 20, 15), generator=generator())
    monkeypatch.setattr(mixing, "_patch", lambda *_: (4, 3, 14, 9))
    box = {"box": (3, 4, 9, 14)}  # left, top, right, bottom
    for ours, theirs in ((Mixer(mixup=0.4), v2.MixUp(num_classes=2)), (Mixer(cutmix=1.0), v2.CutMix(num_classes=2))):
        mixed, permutation, lam = mix(ours, images, generator())
        for index, other in enumerate(permutation.tolist()):
            pair = torch.stack((images[other], images[index]))
            labels = torch.tensor((0, 1))
            expected = theirs.transform(pair, box | {"labels": labels, "batch_size": 2, "lam": lam})[1]
            torch.testing.assert_close(mixed[index], expected)


def test_without_mixing_images_are_returned_as_they_are() -> None:
    images = constant()
    mixed, permutation, lam = mix(Mixer(), images, generator())
    assert mixed is images
    assert permutation.tolist() == list(range(16))
    assert lam == 1


def test_with_both_kinds_each_is_chosen_for_about_half_of_the_batches() -> None:
    mixer, images = Mixer(mixup=1.0, cutmix=1.0), constant()
    blended = [bool((mix(mixer, images, generator(seed))[0] % 1).any()) for seed in range(100)]
    assert 30 < sum(blended) < 70


@pytest.mark.parametrize("mixer", [Mixer(mixup=1.0), Mixer(cutmix=1.0), Mixer(cutmix=1.0, shape="strip")])
def test_mixing_is_a_function_of_the_seed(mixer: Mixer) -> None:
    images = torch.rand((16, 3, 20, 15), generator=generator())
    state = torch.get_rng_state()
    first, again, other = (mix(mixer, images, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first[0], again[0])
    assert torch.equal(first[1], again[1])
    assert first[2] == again[2]
    assert not torch.equal(first[0], other[0])
    assert torch.equal(torch.get_rng_state(), state)
