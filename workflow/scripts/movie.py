"""Rule movie: the time-lapse stores of a sample side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log, shown_files

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], files: dict[str, Any], out_mp4: Path, out_png: Path, out_json: Path) -> None:
    from nstm.pipeline.movie import run_movie
    from nstm.pipeline.panels import Shown

    run_movie(params, Shown(**files), out_mp4, out_png, out_json)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "movie", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            shown_files(snakemake.input),
            Path(snakemake.output.movie),
            Path(snakemake.output.still),
            Path(snakemake.output.contents),
        )
