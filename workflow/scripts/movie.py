"""Rule movie: the time-lapse stores of a sample side by side."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import by_name, path_or_none, rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], stores: dict[str, Path], truth: Path | None, out_mp4: Path, out_png: Path) -> None:
    from nstm.pipeline.movie import run_movie

    run_movie(params, stores, truth, out_mp4, out_png)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "movie", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            by_name(snakemake.input.stores),
            path_or_none(snakemake.input.truth),
            Path(snakemake.output.movie),
            Path(snakemake.output.still),
        )
