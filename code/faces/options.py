"""Every option of the demo, as config.py has those of the job. No torch, no pandas."""

from dataclasses import dataclass
from pathlib import Path

from runtime.arguments import option


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Options of the demo, which draws faces in the layout of the competition."""

    output_dir: Path = option(Path("./demo"), "folder for the images: train/, eval/ and gt/")
    people: int = option(160, "people to train on", minimum=18, maximum=1_000_000)
    eval_people: int = option(
        0, "people to evaluate on; 0 for half as many as to train on", minimum=0, maximum=1_000_000
    )
    proportions: str = option("balanced", "distribution of gender and age", choices=("balanced", "competition"))
    seed: int = option(42, "random seed of the images", minimum=0, below=2**32)
    threads: int = option(0, "number of drawing processes, 0 for one per CPU", minimum=0, maximum=256)
    contact_sheet: Path | None = option(None, "image of one face per class to draw instead, .jpg or .png")
