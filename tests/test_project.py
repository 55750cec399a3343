"""What holds the project together: dependencies that agree, layers, generated files, thin scripts."""

import builtins
import dis
import importlib
import re
import subprocess
import sys
import tomllib
from contextlib import suppress
from importlib import metadata
from pathlib import Path
from types import CodeType

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from nstm.pipeline.document import documents

ROOT = Path(__file__).resolve().parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
DECLARED = {r.name: r for r in map(Requirement, [*PROJECT["dependencies"], *PROJECT["optional-dependencies"]["dev"]])}


def test_environment_yml_agrees_with_pyproject() -> None:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(entry["pip"] for entry in environment if isinstance(entry, dict))
    found = {r.name: r.specifier for r in map(Requirement, [*(e for e in environment if isinstance(e, str)), *pip])}
    assert found.pop("python") == PROJECT["requires-python"]
    found.pop("pip")
    assert found == {name: r.specifier for name, r in DECLARED.items()}


def test_the_lock_pins_everything_and_names_no_index() -> None:
    lines = [line for line in (ROOT / "requirements.lock").read_text().splitlines() if not line.startswith("#")]
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line) for line in lines), "only NAME==VERSION"
    pins = {name.lower().replace("_", "-"): Version(v) for name, v in (line.split("==") for line in lines)}
    assert len(pins) == len(lines)
    for name, requirement in DECLARED.items():
        assert pins[name.lower().replace("_", "-")] in requirement.specifier, name
    assert "nstm" not in pins


@pytest.mark.parametrize("lock", ["requirements.lock", "requirements-docs.lock"])
def test_what_is_pinned_takes_every_python_that_the_project_takes(lock: str) -> None:
    lines = [line for line in (ROOT / lock).read_text().splitlines() if "==" in line]
    oldest, refused = "3.11.2", {}  # that of Debian 12
    assert oldest in SpecifierSet(PROJECT["requires-python"])
    for name, version in (line.split("==") for line in lines):
        with suppress(metadata.PackageNotFoundError):  # the documents' packages are installed by `make site` only
            needs = metadata.metadata(name).get("Requires-Python")
            if needs and metadata.version(name) == version and oldest not in SpecifierSet(needs):
                refused[name] = needs
    assert not refused


@pytest.mark.parametrize("cuda", ["cuda12", "cuda13"])
def test_the_locks_of_gpu_nodes_add_the_plugin_of_the_same_jax(cuda: str) -> None:
    lines = [line for line in (ROOT / f"requirements-{cuda}.lock").read_text().splitlines() if line[0] != "#"]
    assert lines[0] == "-r requirements.lock"
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line) for line in lines[1:]), "only NAME==VERSION"
    pins = dict(line.split("==") for line in lines[1:])
    common = dict(re.findall(r"^(\S+)==(\S+)$", (ROOT / "requirements.lock").read_text(), re.MULTILINE))
    assert {pins[f"jax-{cuda}-{part}"] for part in ("plugin", "pjrt")} == {common["jax"]}
    assert not set(pins) & set(common)
    (extra,) = map(Requirement, PROJECT["optional-dependencies"][cuda])
    assert (extra.name, extra.extras, extra.specifier) == ("jax", {cuda}, DECLARED["jax"].specifier)


@pytest.mark.parametrize("extra", ["docs", "napari"])
def test_the_locks_of_extras_hold_what_the_extra_asks_for_and_the_common_lock_does_not(extra: str) -> None:
    lines = [line for line in (ROOT / f"requirements-{extra}.lock").read_text().splitlines() if line[0] != "#"]
    assert lines[0] == "-r requirements.lock"
    assert all(re.fullmatch(r"[A-Za-z0-9._-]+==[A-Za-z0-9.!+]+", line) for line in lines[1:]), "only NAME==VERSION"
    pins = {name.lower().replace("_", "-"): Version(v) for name, v in (line.split("==") for line in lines[1:])}
    assert len(pins) == len(lines) - 1
    for requirement in map(Requirement, PROJECT["optional-dependencies"][extra]):
        assert pins[requirement.name] in requirement.specifier
    common = re.findall(r"^(\S+)==", (ROOT / "requirements.lock").read_text(), re.MULTILINE)
    assert not set(pins) & {name.lower().replace("_", "-") for name in common}


@pytest.mark.parametrize("name", sorted(documents()))
def test_generated_files_are_up_to_date(name: str) -> None:
    assert (ROOT / name).read_text() == documents()[name], "run: make docs"


def test_layers() -> None:
    lint = Path(sys.executable).parent / "lint-imports"
    done = subprocess.run([lint], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]


def test_no_code_of_the_package_knows_the_workflow() -> None:
    for path in (ROOT / "nstm").rglob("*.py"):
        assert not re.search(r"^\s*(from|import) (workflow|snakemake)\b", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("kind", ["diffusercam", "dpc", "sim", "speckle"])
def test_a_config_is_checked_without_what_only_computing_needs(kind: str) -> None:
    """Every job of every rule checks the config once more, in a process of its own."""
    code = f"import sys; from nstm.pipeline.experiment import system_class; system_class('{kind}', '')"
    loaded = subprocess.run(
        [sys.executable, "-c", f"{code}; print(*sys.modules)"], capture_output=True, text=True, check=True
    ).stdout.split()
    assert f"nstm.systems.{kind}" in loaded
    assert not {"jax", "xarray", "dask", "zarr", "matplotlib", "scipy.optimize", "nd2"} & set(loaded)


def test_nothing_is_unpickled_and_no_rule_has_a_shell() -> None:
    for path in [*(ROOT / "nstm").rglob("*.py"), *(ROOT / "workflow").rglob("*.py")]:
        text = path.read_text()
        assert not re.search(r"^\s*(import|from) (pickle|cloudpickle|dill|joblib)\b", text, re.MULTILINE), path
        assert all("allow_pickle=False" in line for line in text.splitlines() if "np.load(" in line), path
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        assert not re.search(r"^\s*(shell|run):", path.read_text(), re.MULTILINE), path


@pytest.mark.parametrize("path", sorted((ROOT / "workflow" / "scripts").glob("*.py")), ids=lambda p: p.stem)
def test_scripts_are_thin(path: Path) -> None:
    text = path.read_text()
    assert len(text.splitlines()) <= 40
    assert 'if __name__ == "__main__":' in text
    assert text.split('if __name__ == "__main__":')[0].count("def ") == 1


def test_every_rule_is_complete() -> None:
    wanted = ("log:", "benchmark:", "message:", "resources:", "params:", "threads:", "conda:", "script:", '"""')
    for path in (ROOT / "workflow" / "rules").glob("*.smk"):
        for rule in re.split(r"^(?:rule|checkpoint) ", path.read_text(), flags=re.MULTILINE)[1:]:
            assert not [word for word in wanted if word not in rule], (path.name, rule.split(":")[0])
            assert "retries:" not in rule


def test_the_default_profile_leaves_to_others_what_beats_them() -> None:
    default = yaml.safe_load((ROOT / "profiles" / "default" / "config.yaml").read_text())
    assert not {"cores", "jobs", "executor", "retries", "default-resources", "rerun-triggers"} & set(default)
    assert (ROOT / "slurm").is_symlink()
    assert (ROOT / "slurm" / "config.yaml").is_file()
    assert (ROOT / "workflow" / "profiles" / "default" / "config.yaml").is_file()


def test_citation_names_both_papers() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert citation["version"] == PROJECT["version"]
    assert {r["doi"] for r in citation["references"]} == {"10.1038/s41592-024-02417-0", "10.1038/s41467-026-68693-w"}


def _globals_of(code: CodeType) -> set[str]:
    """Names that the functions in some code look up in their module when they are called."""
    found = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    return found.union(*(_globals_of(inner) for inner in code.co_consts if isinstance(inner, CodeType)))


@pytest.mark.parametrize("path", sorted((ROOT / "nstm").rglob("*.py")), ids=lambda path: str(path.relative_to(ROOT)))
def test_every_name_is_known(path: Path) -> None:
    """Those who check style and types take the axes in the types of arrays for names, so they cannot be asked."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
    assert _globals_of(compile(path.read_text(), path, "exec")) <= {*vars(module), *dir(builtins)}
