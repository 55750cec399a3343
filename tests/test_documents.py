"""The documents: settings in them are accepted, messages that they explain and commands that they name exist.

Their blocks of commands are run by workflow/test_documents_commands.
"""

import ast
import re

import pytest
import yaml
from typer.main import get_command

from nstm.cli import app
from nstm.pipeline.experiment import Experiment
from tests.documents import PAGES, ROOT, blocks


def settings_blocks():
    for page in PAGES:
        for number, text in enumerate(blocks(page, "yaml")):
            if page.name != "add-a-system.md":  # has a test of its own
                yield pytest.param(text, id=f"{page.stem}-{number}")


@pytest.mark.parametrize("text", list(settings_blocks()))
def test_settings_in_the_documents_are_accepted(text, tmp_path):
    found = yaml.safe_load(text)
    common = {"samples": "samples.tsv", "systems": {"dpc": {"kind": "dpc", "optics": {}}}}
    config = {**common, **found}
    (tmp_path / "samples.tsv").write_text(f"sample\tpath\tsystem\none\tx.tif\t{next(iter(config['systems']))}\n")
    stage = Experiment.load(config, tmp_path).stage("one", "inspect")
    assert stage.system


def texts(node):
    """A text of the source with `…` for what is filled in, or nothing."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr):
        return "".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values)
    return ""


@pytest.fixture(scope="module")
def messages():
    files = [*(ROOT / "nstm").rglob("*.py")]
    found = [texts(node) for file in files for node in ast.walk(ast.parse(file.read_text()))]
    templates = [file.read_text() for file in (ROOT / "nstm").rglob("*.j2")]
    return [re.sub(r"\s+", " ", text) for text in [*found, *templates] if text]


def explained():
    rows = re.findall(r"^\| (`.*?) \| ", (ROOT / "docs" / "troubleshooting.md").read_text(), re.MULTILINE)
    for row in rows:
        for long, short in re.findall(r"`` (.+?) ``|`([^`]+)`", row):
            message = long or short
            if not row.endswith("(of Snakemake)"):
                yield pytest.param(message, id=message[:50])


@pytest.mark.parametrize("message", list(explained()))
def test_messages_that_are_explained_are_those_of_the_program(message, messages):
    """The pieces between `…` follow each other in one text of the source."""
    pieces = [re.escape(piece.strip()) for piece in message.split("…") if piece.strip()]
    pattern = re.compile(".*?".join(pieces), re.DOTALL)
    assert any(pattern.search(text) for text in messages)


def test_every_block_of_commands_is_marked_as_such():
    """Commands in blocks without a language would be run by no test."""
    for page in PAGES:
        indented = re.findall(r"(?:^    (?:nstm|snakemake|make|pip|python3?) .*\n?)+", page.read_text(), re.MULTILINE)
        assert not indented, (page.name, indented)
        for text in re.findall(r"^```\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE):
            assert not re.search(r"^(nstm|snakemake|make|pip) ", text, re.MULTILINE), page.name


def inline(pattern):
    """Code within sentences and tables that begins so, with the page that has it."""
    for page in PAGES:
        prose = re.sub(r"^```.*?^```", "", page.read_text(), flags=re.DOTALL | re.MULTILINE)
        for code in re.findall(rf"(?<!`)`({pattern} [^`]+)`", prose):
            yield pytest.param(code, id=f"{page.stem}: {code[:40]}")


@pytest.mark.parametrize("code", list(inline("nstm")))
def test_commands_within_sentences_exist(code):
    _, name, *rest = code.split()
    command = get_command(app).commands.get(name)
    assert command, f"there is no nstm {name}"
    options = {option for parameter in command.params for option in parameter.opts}
    assert {word for word in rest if word.startswith("--")} <= options


@pytest.mark.parametrize("code", list(inline("make")))
def test_targets_within_sentences_exist(code):
    makefile = (ROOT / "Makefile").read_text()
    for target in (word for word in code.split()[1:] if "=" not in word):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target


def test_paths_of_the_project_that_are_named_exist():
    for page in PAGES:
        for name in re.findall(
            r"`((?:docs|config|profiles|benchmarks|nstm|tests|workflow)/[\w./-]+)`", page.read_text()
        ):
            assert (ROOT / name).exists(), (page.name, name)
