"""The shape of the house: imports point down, torch stays out of the quick commands, files and functions stay small."""

import ast
import fnmatch
import importlib.metadata
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from data.images import EXTENSIONS

ROOT = Path(__file__).parents[2]
AT_THE_TOP = {
    *("README.md", "CHANGELOG.md", "Makefile", "Dockerfile", "docker-compose.yml", "pyproject.toml", "LICENSE"),
    *("code", "container", "tests", ".ci", ".github", ".gitignore", ".dockerignore"),
}
README_IMAGE = Path(".github/faces.jpg")  # tests/project/test_readme.py shows that demo.py drew it
LAST_RELEASE = Path("tests/support/last_release")  # files of the release before, which users have
COMMANDS = {
    *("train", "inference", "evaluation", "demo", "audit", "export", "cv", "weights"),
    *("launch", "serve", "transform", "submit"),
}
WITHOUT_TORCH = ("config", "weights_cache", "evaluation", "demo", "launch", "contract", "submit", "report.write")


def name_of(path: Path) -> str:
    """Return the name that a file of code/ or container/ is imported by: `data.images`, `train`."""
    parts = path.relative_to(ROOT).with_suffix("").parts[1:]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


SOURCES = sorted(path for folder in ("code", "container") for path in (ROOT / folder).rglob("*.py"))
MODULES = {name_of(path): path for path in SOURCES if path.name != "__init__.py"}
WINGS = {path.parent.name: path.parent for path in SOURCES if path.name == "__init__.py"}


def imports(path: Path) -> Iterator[str]:
    """Yield the modules that a file imports at run time, in functions too, but not for the type checker alone."""
    queue: list[ast.AST] = [ast.parse(path.read_text())]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path.name}: imports name the wing, as `from data.images import ...`"
            yield from (
                f"{node.module}.{alias.name}" if node.module in WINGS else str(node.module) for alias in node.names
            )
        queue += ast.iter_child_nodes(node)


IMPORTS = {name: {found for found in imports(path) if found in MODULES} for name, path in MODULES.items()}


def reachable(name: str) -> set[str]:
    """Return the modules of ours that importing a module loads, itself included."""
    found, queue = {name}, [name]
    while queue:
        new = IMPORTS[queue.pop()] - found
        found |= new
        queue += new
    return found


def wing_of(name: str) -> str:
    """Return the wing of a module, or an empty string for what lies at the top of code/ or container/."""
    return name.rpartition(".")[0]


def wings_below(wing: str) -> set[str]:
    """Return the wings that the modules of a wing need, directly or by way of what lies at the top."""
    return {wing_of(found) for name in MODULES if wing_of(name) == wing for found in reachable(name)} - {wing, ""}


def tracked_files() -> list[Path]:
    """Return what git holds or would take up."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a checkout: what belongs to the repository is not known")
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.splitlines()
    return [Path(name) for name in listed if (ROOT / name).exists()]


def in_the_image(path: Path) -> bool:
    """Return whether .dockerignore lets a file travel to the builder; the last pattern that fits decides."""
    name, included = path.relative_to(ROOT).as_posix(), True
    for line in (ROOT / ".dockerignore").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        pattern = line.removeprefix("!").rstrip("/").replace("**/", "*")
        if fnmatch.fnmatch(name, pattern) or name.startswith(f"{pattern}/"):
            included = line.startswith("!")
    return included


@pytest.mark.parametrize("name", MODULES)
def test_no_import_leads_back_to_where_it_started(name: str) -> None:
    assert not [found for found in IMPORTS[name] if name in reachable(found)]


@pytest.mark.parametrize("wing", WINGS)
def test_wings_stand_on_one_another_and_never_in_a_circle(wing: str) -> None:
    assert not [below for below in wings_below(wing) if wing in wings_below(below)]


def test_the_runtime_is_the_ground_and_faces_are_for_the_demo_alone() -> None:
    assert wings_below("runtime") == set()
    assert wings_below("data") == {"runtime"}
    assert wings_below("networks") == {"runtime"}
    assert wings_below("training") <= {"data", "labelling", "networks", "runtime"}
    assert {name for name in MODULES if "faces" in {wing_of(found) for found in IMPORTS[name]}} <= {
        "demo",
        *(name for name in MODULES if wing_of(name) == "faces"),
    }


def test_what_is_trained_with_knows_nothing_of_what_it_runs_in() -> None:
    outside = {name for name, path in MODULES.items() if path.is_relative_to(ROOT / "container")}
    assert not [name for name in MODULES if name not in outside and IMPORTS[name] & outside]


def test_commands_are_imported_by_nobody() -> None:
    assert {name for name in MODULES if not wing_of(name)} >= COMMANDS
    assert not [name for name in MODULES if IMPORTS[name] & COMMANDS]


def test_every_wing_is_a_regular_package_without_code_of_its_own() -> None:
    assert set(WINGS) == {
        *("data", "training", "report", "runtime", "faces", "options", "networks", "engines", "exporting", "labelling"),
        *("server", "batch", "jobs"),
    }
    assert [wing for wing, folder in WINGS.items() if (folder / "__init__.py").read_text()] == []
    assert not [name for name in ("code", "container") if (ROOT / name / "__init__.py").exists()]


def test_nothing_is_in_the_image_that_only_a_laptop_needs() -> None:
    left_out = {name for name, path in MODULES.items() if not in_the_image(path)}
    laptop = {name for name in MODULES if wing_of(name) in ("jobs", "faces", "exporting")} | {
        "submit",
        "demo",
        "export",
        "weights",
        "options.weights",
    }
    assert left_out == laptop
    for name in MODULES.keys() - left_out:
        assert not reachable(name) & left_out, f"{name} is in the image, and needs what is not"


def test_whatever_code_reads_beside_its_modules_is_in_the_image() -> None:
    files = [path for path in tracked_files() if path.parts[0] == "code" and path.suffix not in (".py", ".md")]
    assert len(files) >= 3, files
    assert [path for path in files if not in_the_image(ROOT / path)] == []


@pytest.mark.parametrize("name", WITHOUT_TORCH)
def test_what_must_answer_at_once_is_free_of_torch(name: str) -> None:
    heavy = {"torch", "torchvision", "tensorboard", "safetensors"}
    for found in reachable(name):
        assert not {module.partition(".")[0] for module in imports(MODULES[found])} & heavy, f"{name} imports {found}"
    program = f"import sys, {name}; sys.exit(any('torch' in loaded for loaded in sys.modules))"
    path = f"{ROOT / 'code'}:{ROOT / 'container'}"
    assert subprocess.run([sys.executable, "-c", program], env={"PYTHONPATH": path}).returncode == 0


def test_no_module_shadows_the_standard_library_or_an_installed_package() -> None:
    names = [name for name in MODULES if not wing_of(name)] + [*WINGS]
    assert len(names) == len(set(names)), "code and container share the path"
    taken = sys.stdlib_module_names | importlib.metadata.packages_distributions().keys()
    assert not taken & set(names)


def functions(path: Path) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_files_and_functions_stay_small_enough_to_read(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= 300
    long = [node.name for node in functions(path) if (node.end_lineno or 0) - node.lineno >= 60]
    assert long == []


def test_no_test_file_imports_another_test_file() -> None:
    tests = {path.stem for path in (ROOT / "tests").rglob("test_*.py")}
    for path in (ROOT / "tests").rglob("*.py"):
        assert not {name.rpartition(".")[2] for name in imports(path)} & tests, path


def test_every_process_of_a_test_ends_when_the_test_fails() -> None:
    for path in (ROOT / "tests").rglob("*.py"):
        if "benchmarks" not in path.parts:
            started = re.findall(r"(?:with|return|=) subprocess\.Popen\(", path.read_text())
            assert not started, f"{path.name}: take support.processes.Process, which a failure does not leave behind"


def test_tests_lie_where_the_code_lies_that_they_are_about() -> None:
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and path.name != "__pycache__"}
    assert WINGS.keys() <= folders
    for path in (ROOT / "tests").glob("*/test_*.py"):
        if (wing := path.parent.name) in WINGS:
            about = {name for name in imports(path) if name.partition(".")[0] == wing}
            assert about, f"{path.name} is about nothing in {wing}/"


def test_the_top_of_the_repository_holds_only_what_belongs_there() -> None:
    assert {path.parts[0] for path in tracked_files()} <= AT_THE_TOP


def test_no_image_and_no_weights_are_in_the_repository_but_the_drawn_image_of_the_readme() -> None:
    endings = (*EXTENSIONS, ".npy", ".npz", ".pth", ".pt", ".safetensors")
    found = [path for path in tracked_files() if path.suffix.lower() in endings]
    assert [path for path in found if not path.is_relative_to(LAST_RELEASE)] == [README_IMAGE]
    assert sum((ROOT / path).stat().st_size for path in tracked_files() if path.is_relative_to(LAST_RELEASE)) < 2 << 20


# The home folder of a machine, or where packages come from: both belong to whoever runs this.
LOCAL = re.compile(r"(?<![\w.])/(home|Users|work)/\w|--(extra-)?index-url|https?://\S*(pypi|/simple\b|/whl/)")
BINARY = (".jpg", ".pt", ".safetensors", ".pixels")


def test_no_text_names_a_folder_of_a_machine_or_a_package_index() -> None:
    texts = {path: (ROOT / path).read_text() for path in tracked_files() if path.suffix not in BINARY}
    found = {str(path): match[0] for path, text in texts.items() if (match := LOCAL.search(text))}
    assert found == {}
    assert LOCAL.search(f"see {'/'}home/someone/x")
    assert LOCAL.search("-" + "-index-url=x")
