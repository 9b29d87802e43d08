"""The table of commands, the Dockerfile, docker-compose.yml and the Makefile name the same commands."""

import re
from dataclasses import fields
from itertools import takewhile
from pathlib import Path

import pytest

from commands import COMMANDS
from server.settings import ServeConfig

ROOT = Path(__file__).parents[2]


def linked_in_the_image(dockerfile: str) -> set[str]:
    """Return the names under which the Dockerfile links the launcher."""
    (names,) = re.findall(r"\bfor \w+ in ([a-z -]+); do ln -s \S*container/launch\.py", dockerfile)
    return set(str(names).split())


def composed(compose: str) -> dict[str, str]:
    """Return service -> command for the services that run a command of the image; `*-gpu` inherit theirs."""
    services = re.split(r"^  (?=[a-z-]+:)", compose.partition("\nservices:\n")[2], flags=re.MULTILINE)[1:]
    found = {
        service.partition(":")[0]: re.search(r"^    entrypoint: \[(\w+)\]$", service, re.M) for service in services
    }
    return {name: entrypoint[1] for name, entrypoint in found.items() if entrypoint}


def made(makefile: str) -> set[str]:
    """Return the targets that need a virtual environment only on the host: those run in Docker as well."""
    rules = re.findall(r"^([a-z][a-z -]*):[^=\n]*\$\(VENV\)", makefile, re.MULTILINE)
    return {target for rule in rules for target in rule.split()}


def test_the_dockerfile_links_every_command_and_no_other() -> None:
    assert linked_in_the_image((ROOT / "Dockerfile").read_text()) == COMMANDS.keys()


def test_compose_has_a_service_for_every_command_and_no_other() -> None:
    services = composed((ROOT / "docker-compose.yml").read_text())
    assert {name for name, command in services.items() if name == command} == COMMANDS.keys()
    assert set(services.values()) == COMMANDS.keys()


def test_the_audit_in_a_container_reads_all_of_data_and_writes_to_its_own_folder() -> None:
    service = (ROOT / "docker-compose.yml").read_text().partition("\n  audit:\n")[2].partition("\n\n")[0]
    mounts = re.findall(r'source: "([^"]+)", target: (\S+),( read_only: true,)? bind: \*must-exist', service)
    assert mounts == [
        ("${DATA:-./data}", "/opt/ml/input/data", " read_only: true,"),
        ("${OUT:-./out}/model", "/opt/ml/model", " read_only: true,"),
        ("${OUT:-./out}/output", "/opt/ml/output", ""),
        ("${OUT:-./out}/audit", "/opt/audit", ""),
    ]
    assert "environment: [SM_AUDIT_DIR=/opt/audit]" in service


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_reads_every_channel_that_its_options_name(name: str) -> None:
    """A channel that no input names would be an unknown one, and ignored."""
    command = COMMANDS[name]
    variables = {option.metadata.get("variable") for options in command.options for option in fields(options)}
    inputs = command.inputs.keys() | command.optional_inputs.keys()
    assert {variable for variable in variables if variable and variable.startswith("SM_CHANNEL_")} <= inputs


def test_compose_lists_every_variable_that_it_reads() -> None:
    header, _, services = (ROOT / "docker-compose.yml").read_text().partition("\nname:")
    passed_on = set(re.findall(r"^ +([A-Z_]+):$", services, re.MULTILINE))  # a name alone
    read = passed_on | set(re.findall(r"\$\{([A-Z_]+)", services)) | {"BASE_IMAGE", "VERSION"}
    listed = header.partition("Variables of the")[2]
    missing = {name for name in read if not re.search(rf"\b{name}\b", listed)}
    assert {name for name in missing if not name.startswith("SERVE_")} == set(), "SERVE_* is listed as that"


def environment(compose: str, service: str) -> set[str]:
    """Return the variables that a service gets, with those of the block that servers share."""
    shared = compose.partition("\nx-serve-environment: &serve-environment\n")[2].partition("\n\n")[0]
    own = compose.partition(f"\n  {service}:")[2].partition("\n    environment:\n")[2]
    names = {line.split(":")[0].strip() for line in takewhile(lambda line: line.startswith(" " * 6), own.splitlines())}
    return names - {"<<"} | set(re.findall(r"^  (\w+):$", shared, re.MULTILINE) if "<<" in names else ())


@pytest.mark.parametrize(
    ("service", "others"),
    [
        ("serve", {"SAGEMAKER_BATCH", "BAD_INPUT"}),  # settings of a batch transform
        ("transform-server", set()),
    ],
)
def test_compose_passes_every_setting_of_the_server_on(service: str, others: set[str]) -> None:
    settings = {field.metadata["variable"] for field in fields(ServeConfig)}
    fixed = {"SM_MODEL_DIR", "SERVE_HOST", "SAGEMAKER_BIND_TO_PORT"}  # by the mounts and the ports
    assert environment((ROOT / "docker-compose.yml").read_text(), service) == settings - fixed - others


def test_make_has_a_target_for_every_command_and_no_other() -> None:
    assert made((ROOT / "Makefile").read_text()) == COMMANDS.keys()


def test_an_entry_that_is_missing_or_too_many_is_noticed() -> None:
    """The three readers above read what the files really say."""
    loop = "for command in train audit; do ln -s ../container/launch.py x; done"
    assert linked_in_the_image(loop) == {"train", "audit"}
    services = (
        "x-job:\n  image: x\nservices:\n  train:\n    entrypoint: [train]\n  other:\n    entrypoint: [python, x.py]\n"
    )
    assert composed(f"\n{services}  audit:\n    entrypoint: [audit]\n") == {"train": "train", "audit": "audit"}
    assert made("train audit: data $(VENV)  ## run\nall: export X = $(VENV)\ntest: .venv/dev\n") == {
        "train",
        "audit",
    }


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_its_script_and_folders_below_opt_ml(name: str) -> None:
    command = COMMANDS[name]
    assert command.name == name
    assert (ROOT / command.script).is_file()
    folders = [
        folder for kind in (command.inputs, command.optional_inputs) for each in kind.values() for folder in each
    ]
    assert not [folder for folder in folders if not re.match(r"input/data/\w+$|model$", folder)]
    processing = [folder for each in command.processing_inputs.values() for folder in each]
    assert bool(processing) == bool(command.processing_output)
    assert all(folder.startswith("processing/") for folder in [*processing, *filter(None, [command.processing_output])])


@pytest.mark.parametrize("name", COMMANDS)
def test_every_input_of_a_command_is_a_folder_that_its_options_read(name: str) -> None:
    command = COMMANDS[name]
    known = {
        field.metadata[key]
        for options in command.options
        for field in fields(options)
        for key in ("variable", "also")
        if field.metadata.get(key)
    }
    used = {*command.inputs, *command.optional_inputs, *command.processing_inputs}
    assert used <= known
