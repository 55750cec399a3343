"""Rule figures: the figures of a sample for the page."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log, shown_files

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], raw: Path, found: dict[str, Path], files: dict[str, Any], out: Path) -> None:
    from nstm.pipeline.figures import run_figures
    from nstm.pipeline.panels import Shown

    pictures = {name: found[name] for name in ("movie", "still", "quality")}
    names = ("illumination", "metrics", "first_fit")
    run_figures(params, raw, *(found[name] for name in names), Shown(**files), out, pictures)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "figures", snakemake.threads):
        names = ("illumination", "metrics", "first_fit", "movie", "still", "quality")
        main(
            dict(snakemake.params.settings),
            Path(snakemake.input.raw),
            {name: Path(snakemake.input[name]) for name in names},
            shown_files(snakemake.input),
            Path(snakemake.output[0]),
        )
