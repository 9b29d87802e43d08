"""A network with attention trains with the deterministic variants of the fast kernels."""

import sys
from pathlib import Path

import pytest

from gpu.black_images import black_faces
from gpu.standin.run import Settings, run_on_standin

T4, H100 = Settings(capability=75), Settings(capability=90)
# A ViT as small as the images of the test; train.py accepts every network that is registered.
SCRIPT = """
import model, train
from torchvision.models import VisionTransformer

model._models["SmallViT"] = lambda classes: VisionTransformer(32, 16, 1, 2, 64, 64, num_classes=classes)
train.main()
"""
FLAGS = "--model SmallViT --epochs 1 --batch-size 14 --resize 32 32 --threads 1"
# The preparation of flash attention's gradients has a template parameter for those that add up in any order.
IN_ANY_ORDER, IN_ONE_ORDER = "flash_bwd_dot_do_o_kernelILb1E", "flash_bwd_dot_do_o_kernelILb0E"


@pytest.mark.parametrize(
    ("gpu", "flags", "used", "unused"),
    [
        pytest.param(H100, "--deterministic true", IN_ONE_ORDER, IN_ANY_ORDER, id="H100"),
        pytest.param(H100, "--deterministic false", IN_ANY_ORDER, IN_ONE_ORDER, id="any order", marks=pytest.mark.slow),
        pytest.param(T4, "--deterministic true", "fmha_cutlassB_f16", "flash_bwd", id="T4", marks=pytest.mark.slow),
    ],
)
def test_attention_is_fast_and_deterministic_if_asked_to_be(
    tmp_path: Path, gpu: Settings, flags: str, used: str, unused: str
) -> None:
    black_faces(tmp_path / "train" / "images", 6, (32, 32))
    environ = {
        "SM_CHANNEL_TRAIN": str(tmp_path / "train"),
        "SM_MODEL_DIR": str(tmp_path / "model"),
        "SM_OUTPUT_DATA_DIR": str(tmp_path / "output"),
        "OMP_NUM_THREADS": "1",
    }
    command = [sys.executable, "-W", "error", "-c", SCRIPT, *FLAGS.split(), *flags.split()]
    done = run_on_standin(command, environ, **gpu)
    assert done.returncode == 0, done.stdout + done.stderr
    kernels = [name for name in done.counters if name.startswith("kernel ")]
    assert any(used in name for name in kernels)
    assert not any(unused in name for name in kernels)
