"""A reader who knows PyTorch and SageMaker meets no word that only this project uses."""

import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
# Today's word for each that was used before; the first groups are names, the last are ways of speaking.
WORDS = {
    r"knobs?": "option",
    r"verbs?": "command",
    r"pictures?": "image",
    r"surroundings": "runtime versions",
    r"kept store|KeptStore": "store cache",
    r"learner": "trainer",
    r"rehearsal": "dry run",
    r"take_back|look_first|strays": "roll_back, preflight, temporary file",
    r"the seed's|the seed project|the seed pipeline": "the original's",
    r"anew|afresh": "again, from scratch",
    r"goes on to|stands above|refused by name|numbers that are none|served worse": "plain words",
}
# Keys that people's scripts read, and names of other projects.
KEPT = re.compile(r'"pictures?"|pictures=|unusable pictures|"learner"|"surroundings"', re.I)
THIS = Path(__file__).relative_to(ROOT).as_posix()
EXEMPT = (THIS, "tests/project/test_readme.py", "CHANGELOG.md", "tests/support/last_release/")


def texts() -> list[str]:
    """Return the tracked files with prose or code of ours."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: which files belong to the repository is not known")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "*.py", "*.md", "*.html", "*.yml"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [name for name in listed if not name.startswith(EXEMPT) and (ROOT / name).exists()]


@pytest.mark.parametrize("words", WORDS)
def test_the_words_are_those_of_the_field(words: str) -> None:
    found = []
    for name in texts():
        for number, line in enumerate((ROOT / name).read_text().splitlines(), 1):
            if match := re.search(rf"\b({words})\b", KEPT.sub("", line), re.IGNORECASE):
                found.append(f"{name}:{number}: {match[0]}, write {WORDS[words]}")
    assert found == []
