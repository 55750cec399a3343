"""The documents as somebody follows them who has nothing else: their blocks, and a copy of the project to run in."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from tests.experiments import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
#: Commands that are not run from the documents, and what runs the same.
ELSEWHERE = {
    "make test": "is what runs the tests",
    "make site": "is part of `make test`",
    "make format": "as `make lint` of `make test`, which refuses what it would change",
    "python3 -m venv .venv && . .venv/bin/activate": "as `make install` of `make test`",
    "pip install --no-deps -r requirements.lock && pip install --no-deps -e .": "as `make install` of `make test`",
    "pip install --no-deps -r requirements-napari.lock": "the lock is compared with the extra by test_project",
    **{
        f"snakemake --cores 2 --configfile config/examples/{name}/config.yaml --directory {name}_example": (
            f"as workflow/test_{name} does with a smaller recording"
        )
        for name in ("diffusercam", "speckle")
    },
    (
        "nstm train-blind ubsim.safetensors --images FOLDER --set epochs=120,patience=8,image_pixel_um=0.0217"
    ): "as pipeline/test_train_blind does, smaller",
    (
        "nstm train-blind ubsim_stacked.safetensors --images FOLDER --set mode=stacked,frames=20,width=64,epochs=120,"
        "rate=0.0005,patience=15,image_pixel_um=0.0217"
    ): "as pipeline/test_train_blind does, smaller",
    "snakemake --cores 2 --configfile config/examples/speckle/studies.yaml --directory blind_studies studies_blind": (
        "as rules/test_studies_blind does, smaller"
    ),
    "snakemake --cores 2 --configfile config/examples/speckle/studies.yaml --directory blind_studies train_blind": (
        "as rules/test_train_blind does, smaller"
    ),
    "nstm view results/er_moving": "needs a screen; its layers are tested by pipeline/test_layers",
}
#: Commands whose code tells of the samples: 1 where one failed.
TELLING = ("nstm status", "nstm inspect --config")
_LEFT_OUT = (
    *(".git", ".venv", ".snakemake", ".jax_cache", ".checkpoints", "__pycache__", "build", "dist", "*.egg-info"),
    *("results", "simulated", "studies", "real", "pictures", ".mypy_cache", ".ruff_cache", ".pytest_cache"),
)


def blocks(page: Path, language: str) -> list[str]:
    """Contents of the fenced blocks of a language, in order."""
    return re.findall(rf"^```{language}\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)


def commands(page: Path) -> list[str]:
    """The commands of a page, one a line, in order, without comments."""
    lines = (re.sub(r"\s+#.*", "", line).strip() for block in blocks(page, "sh") for line in block.splitlines())
    return [line for line in lines if line]


class Checkout:
    """A copy of the project in a home of its own, with the environment of the tests as its `.venv`."""

    def __init__(self, home: Path) -> None:
        self.home, self.folder = home, home / "nstm"
        shutil.copytree(ROOT, self.folder, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        for path in (*self.folder.glob("requirements*.lock"), self.folder / "pyproject.toml"):
            os.utime(path, (0, 0))  # older than the stamp below: nothing is installed
        environment = self.folder / ".venv"
        environment.mkdir()
        for name in ("bin", "lib", "pyvenv.cfg"):
            (environment / name).symlink_to(Path(sys.prefix) / name)
        for name in (".installed", ".installed-docs"):
            (environment / name).touch()
        self.env = {name: value for name, value in os.environ.items() if not name.startswith(("XDG_", "SNAKEMAKE"))}
        self.env |= {"HOME": str(home), "PYTHONPATH": str(self.folder), "OMP_NUM_THREADS": "1"}
        self.env["PATH"] = f"{environment / 'bin'}:{self.env['PATH']}"

    def edit(self, name: str, change: Callable[[str], str]) -> None:
        """Change a file of the copy."""
        path = self.folder / name
        path.write_text(change(path.read_text()))

    def run(self, command: str) -> str:
        """Run a line in the folder of the copy as a shell does; what it printed."""
        return self._ran(command, ["bash", "-c", command], (0, 1) if command.startswith(TELLING) else (0,))

    def python(self, code: str) -> str:
        """Run a piece of Python in the folder of the copy; what it printed."""
        return self._ran(code, [sys.executable, "-c", code], (0,))

    def follow(self, page: Path, before: Mapping[str, Callable[[], None]] | None = None) -> dict[str, str]:
        """Run all commands of a page in order; what each printed.

        Args:
            page: the page.
            before: what a person does by hand before a command.
        """
        printed = {}
        for command in commands(page):
            if command not in ELSEWHERE:
                (before or {}).get(command, lambda: None)()
                printed[command] = self.run(command)
        return printed

    def _ran(self, what: str, command: list[str], codes: tuple[int, ...]) -> str:
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=1500,
        )
        assert done.returncode in codes, f"{what}\n{done.stdout[-4000:]}"
        return done.stdout
