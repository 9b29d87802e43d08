"""The shape of the house: imports point down, the quick verbs stay free of torch, files and functions stay small."""

import ast
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = sorted([*(ROOT / "code").glob("*.py"), *(ROOT / "container").glob("*.py")])

# A module may import what stands before it. The first group answers --help, draws, and evaluates without torch.
WITHOUT_TORCH = [
    *(
        "errors",
        "labels",
        "arguments",
        "config",
        "environment",
        "journal",
        "bombs",
        "images",
        "table",
        "decoding",
        "kept",
    ),
    *("metrics", "samples"),
    *("demo_pen", "demo_people", "demo_face", "demo_hair", "demo_features", "demo_mask", "demo_portrait", "demo"),
    *("answers", "evaluation", "results", "figures", "page", "report"),
]
WITH_TORCH = [
    *("devices", "transforms", "augmentation", "dataset", "loss", "weights", "model", "optimization"),
    *("memory", "store", "loader", "tracking", "data", "artifact", "checkpoint", "position", "learner"),
    *("train", "inference"),
]
ORDER = WITHOUT_TORCH + WITH_TORCH
VERBS = {"train", "inference", "evaluation", "demo"}
README_PICTURE = Path(".github/faces.jpg")  # tests/test_readme.py shows that demo.py drew it
AT_THE_TOP = {
    *("README.md", "Makefile", "Dockerfile", "docker-compose.yml", "pyproject.toml", "LICENSE"),
    *("code", "container", "tests", ".ci", ".github", ".gitignore", ".dockerignore"),
}


def imports(path: Path) -> set[str]:
    """Top-level names that a file imports at run time, in functions too; what only the type checker sees is not one."""
    found: set[str] = set()
    queue: list[ast.AST] = [ast.parse(path.read_text())]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name.split(".")[0] for alias in node.names}
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: code is flat, relative imports have no meaning"
            found.add(str(node.module).split(".")[0])
        queue += ast.iter_child_nodes(node)
    return found


def tracked_files() -> list[Path]:
    """What git holds or would take up."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: what belongs to the repository is not known")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [Path(name) for name in listed if (ROOT / name).exists()]


def test_every_module_has_its_place() -> None:
    assert sorted(ORDER) == [path.stem for path in SOURCES if path.parent.name == "code"]


@pytest.mark.parametrize("name", ORDER)
def test_imports_point_only_down(name: str) -> None:
    ours = imports(ROOT / "code" / f"{name}.py") & {path.stem for path in SOURCES}
    assert ours <= set(ORDER[: ORDER.index(name)]), f"{name} imports {ours}"
    assert not ours & VERBS


def test_the_quick_modules_stay_free_of_torch() -> None:
    for name in WITHOUT_TORCH:
        assert not imports(ROOT / "code" / f"{name}.py") & {"torch", "torchvision", "tensorboard", "safetensors"}
    program = f"import sys; import {', '.join(WITHOUT_TORCH)}; sys.exit(any('torch' in name for name in sys.modules))"
    assert subprocess.run([sys.executable, "-c", program], cwd=ROOT / "code").returncode == 0


def test_no_module_shadows_the_standard_library_or_an_installed_package() -> None:
    names = [path.stem for path in SOURCES]
    assert len(names) == len(set(names)), "code and container share the path"
    taken = sys.stdlib_module_names | importlib.metadata.packages_distributions().keys()
    assert not taken & set(names)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_files_and_functions_stay_small_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    long = [node.name for node in functions(path) if (node.end_lineno or 0) - node.lineno >= 60]
    assert long == []


def test_code_is_a_flat_folder_of_modules_and_no_package() -> None:
    names = {path.name for path in (ROOT / "code").iterdir() if path.name not in ("__pycache__", ".mypy_cache")}
    assert {name for name in names if not name.endswith(".py")} == set()
    assert not names & {"__init__.py", "setup.py", "requirements.txt"}


def test_the_top_of_the_repository_holds_only_what_belongs_there() -> None:
    assert {path.parts[0] for path in tracked_files()} <= AT_THE_TOP


def test_no_picture_is_in_the_repository_but_the_drawn_one_of_the_readme() -> None:
    endings = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".ppm", ".npy", ".npz", ".pth", ".pt", ".safetensors")
    assert [path for path in tracked_files() if path.suffix.lower() in endings] == [README_PICTURE]


# The home folder of a machine, or where packages come from: both belong to whoever runs this.
LOCAL = re.compile(r"(?<![\w.])/(home|Users|work)/\w|--(extra-)?index-url|https?://\S*(pypi|/simple\b|/whl/)")


def test_no_text_names_a_folder_of_a_machine_or_a_package_index() -> None:
    texts = {path: (ROOT / path).read_text() for path in tracked_files() if path != README_PICTURE}
    found = {str(path): match[0] for path, text in texts.items() if (match := LOCAL.search(text))}
    assert found == {}
    assert LOCAL.search(f"see {'/'}home/someone/x")
    assert LOCAL.search("-" + "-index-url=x")
