"""The READMEs are true: commands, options, variables, files, messages and the code map exist. README.md is short."""

import ast
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from demo import contact_sheet
from labels import MASKED_FACES
from support.readmes import (
    DETAILED,
    FENCE,
    MOST_WORDS,
    NAMES,
    ORIGINAL_FILES,
    OTHER_COMMANDS,
    OUR_COMMANDS,
    README,
    ROOT,
    SCRIPTS,
    TEXTS,
    all_options,
    block_lines,
    check_docker,
    check_make,
    check_script,
    commands,
    help_of,
    is_command,
    spans,
    tables,
    words_of,
)

# ---- length, image, links ----


def test_the_readme_is_short() -> None:
    assert len(README.split()) <= MOST_WORDS


def test_the_image_is_the_sheet_that_demo_draws() -> None:
    with Image.open(ROOT / ".github/faces.jpg") as shown:
        difference = np.asarray(shown, np.float64) - np.asarray(contact_sheet(42, MASKED_FACES), np.float64)
    assert 10 * np.log10(255**2 / (difference**2).mean()) > 30


@pytest.mark.parametrize("name", NAMES)
def test_links_lead_somewhere(name: str) -> None:
    links = [link for link in re.findall(r"\]\(([^)]+)\)", TEXTS[name]) if "://" not in link]
    for link in links:
        target, _, anchor = link.partition("#")
        path = (ROOT / name).parent / target
        assert path.exists(), link
        headings = re.findall(r"^#+ (.*)$", path.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in {re.sub(r"[^\w -]", "", text.lower()).replace(" ", "-") for text in headings}
    assert name != "README.md" or {f"{other}" for other in NAMES[1:]} <= set(links)


# ---- commands and options ----


@pytest.mark.parametrize("name", NAMES)
def test_every_block_says_what_it_is(name: str) -> None:
    languages = {language for language, _ in FENCE.findall(TEXTS[name])}
    assert languages <= {"sh", "console", "python", "json", "text"}
    assert TEXTS[name].count("```") == 2 * len(FENCE.findall(TEXTS[name]))


@pytest.mark.parametrize(("name", "line"), commands())
def test_every_command_can_be_typed(name: str, line: str) -> None:
    words = words_of(line)
    first = words[0]
    assert first in OUR_COMMANDS + OTHER_COMMANDS
    if first == "make":
        check_make(words)
    elif first == "docker":
        check_docker(words)
    elif first == ".venv/bin/pytest":
        assert all((ROOT / word).is_file() for word in words[1:])
    elif first in ("python", "submit.py"):
        script, rest = ("container/submit.py", words[1:]) if first == "submit.py" else (words[1], words[2:])
        check_script(script, rest)


def test_there_are_commands_of_every_kind() -> None:
    found = {words_of(line)[0] for _, line in commands()}
    assert found >= {*OUR_COMMANDS, "docker", "curl", "aws"}


@pytest.mark.parametrize("name", NAMES)
def test_every_option_in_the_text_exists(name: str) -> None:
    ours = [span for span in spans(TEXTS[name]) if not span.startswith(OTHER_COMMANDS)]
    assert set(re.findall(r"(?<![\w-])--[a-z][\w-]*", " ".join(ours))) <= all_options()


def test_python_blocks_are_python() -> None:
    blocks = [body for text in TEXTS.values() for language, body in FENCE.findall(text) if language == "python"]
    assert blocks
    for body in blocks:
        ast.parse(body)


# ---- variables and the contract ----


def sources() -> list[Path]:
    return [path for folder in ("code", "container") for path in sorted((ROOT / folder).rglob("*.py"))]


@pytest.mark.parametrize("name", NAMES)
def test_every_variable_exists(name: str) -> None:
    files = [*sources(), ROOT / "Makefile", ROOT / "docker-compose.yml", ROOT / "Dockerfile"]
    pattern = re.compile(r"\b(?:SM|SERVE|SAGEMAKER)_[A-Z][A-Z_]*[A-Z]\b|\bBAD_INPUT\b")
    known = {variable for path in files for variable in pattern.findall(path.read_text())}
    known.add("SAGEMAKER_TRAINING_MODULE")  # sagemaker-training reads it
    assert set(pattern.findall(TEXTS[name])) <= known


def folder_options(*scripts: str) -> set[tuple[str, str, str]]:
    """Return (variable, option, default) of every folder, as --help shows them; no default is ''."""
    found = set()
    for script in scripts:
        for option, note in re.findall(r"^ +(--[\w-]+) [A-Z]+\s+.*\(([^()]*)\)$", help_of(script), re.MULTILINE):
            variables, _, default = note.partition(", default ")
            found |= {(variable, option, default) for variable in re.findall(r"\bSM_[A-Z_]+", variables)}
    assert found
    return found


@pytest.mark.parametrize(
    ("name", "scripts"),
    [("README.md", [script for script in SCRIPTS if script not in DETAILED]), ("code/README.md", DETAILED)],
)
def test_the_contract_table_names_every_folder_variable_with_its_option_and_default_and_no_other(
    name: str, scripts: list[str]
) -> None:
    rows = [row for row in tables(TEXTS[name], "variable") if "`SM_OUTPUT_DIR`" not in row]
    shown = set()
    for variables, options, _, defaults in rows:
        (option,) = re.findall(r"--[\w-]+", options)
        places = [str(Path(place)) for place in re.findall(r"`([^`]+)`", defaults)] or [""]
        shown |= {(name, option, place) for name in re.findall(r"SM_[A-Z_]+", variables) for place in places}
    assert shown == folder_options(*scripts)


# ---- files and the map ----


@pytest.mark.parametrize("name", NAMES)
def test_every_file_in_the_text_exists(name: str) -> None:
    paths = set(re.findall(r"(?<![\w/.~-])(?:code|container|tests|\.github)/[\w./-]*[\w/]", TEXTS[name]))
    paths |= {span for span in spans(TEXTS[name]) if re.fullmatch(r"[\w-]+\.(yml|toml)|[A-Z]\w+\.md|Makefile", span)}
    assert paths
    assert {path for path in paths if not (ROOT / path).exists()} == set()


def code_map() -> dict[str, list[str]]:
    """Return the names below each folder of the map, in their order."""
    (body,) = [
        body for _, body in FENCE.findall(TEXTS["code/README.md"].split("## Code map")[1]) if body.startswith("code/")
    ]
    found: dict[str, list[str]] = {}
    for line in body.splitlines():
        names = re.findall(r"(?<!\S)\w+(?:\.py|/)(?!\S)", line)
        if not line.startswith(" "):
            folder = names.pop(0)
            found[folder] = []
        found[folder] += names
    return found


@pytest.mark.parametrize("folder", ["code/", "container/"])
def test_the_map_names_every_module_at_the_top_and_every_wing(folder: str) -> None:
    modules = {path.name for path in (ROOT / folder).glob("*.py")}
    wings = {f"{path.parent.name}/" for path in (ROOT / folder).glob("*/__init__.py")}
    assert sorted(code_map()[folder]) == sorted(modules | wings)


def test_the_map_begins_with_the_files_of_the_original() -> None:
    assert set(code_map()["code/"][: len(ORIGINAL_FILES)]) == ORIGINAL_FILES


def test_the_map_names_folders_of_tests() -> None:
    names = code_map()["tests/"]
    assert len(names) > 3
    assert all((ROOT / "tests" / name).is_dir() for name in names)


def test_what_to_change_is_in_one_file_each() -> None:
    rows = tables(TEXTS["code/README.md"], "to change")
    assert len(rows) >= 10
    assert all((ROOT / "code" / file.strip("`")).is_file() for _, file in rows)


# ---- messages, figures, words ----


def messages() -> str:
    """Return every text in the code but docstrings, with `...` for what is filled in, one per line."""
    found = []
    for path in sources():
        nodes = list(ast.walk(ast.parse(path.read_text())))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        for node in nodes:
            if isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                found.append("".join(map(str, parts)))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings:
                found.append(node.value)
    return "\n".join(found)


@pytest.mark.parametrize("name", ["README.md", "container/README.md"])
def test_every_message_is_one_of_the_code(name: str) -> None:
    known = messages()
    phrases = [phrase for row in tables(TEXTS[name], "message") for phrase in re.findall(r"`([^`]+)`", row[0])]
    assert [phrase for phrase in phrases if phrase not in known] == []


@pytest.mark.parametrize(("name", "header"), [("README.md", "promise"), ("tests/faults/README.md", "fault")])
def test_every_promise_has_the_command_that_proves_it(name: str, header: str) -> None:
    for row in tables(TEXTS[name], header):
        assert any(is_command(span) for span in re.findall(r"`([^`]+)`", row[-1])), row


@pytest.mark.parametrize(
    ("name", "chapter", "command"),
    [
        ("README.md", "## Results", "python code/train.py"),
        ("tests/benchmarks/README.md", "## Training and batch inference", "make bench"),
        ("tests/benchmarks/README.md", "## Serving", "make bench-serve"),
    ],
)
def test_figures_come_with_the_command_that_made_them(name: str, chapter: str, command: str) -> None:
    text = TEXTS[name].split(f"{chapter}\n")[1].split("\n## ")[0]
    assert any(line.startswith(command) for line in block_lines(text))


@pytest.mark.parametrize("name", NAMES)
def test_the_words_are_those_of_pytorch_and_sagemaker(name: str) -> None:
    ours = re.compile(r"\b(pictures?|verbs?|knobs?|anew|goes on|the seed'?s?|(?<!ground[ -])truths?)\b", re.IGNORECASE)
    assert ours.findall(TEXTS[name]) == []
