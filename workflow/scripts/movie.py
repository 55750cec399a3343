"""Rule movie: the time-lapse stores of a sample side by side, and the paths of the sample."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import by_name, path_or_none, rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    params: dict[str, Any], stores: dict[str, Path], truth: Path | None, raw: Path, fitted: list[Path], out: list[Path]
) -> None:
    from nstm.pipeline.movie import run_movie
    from nstm.pipeline.trajectories import run_trajectories

    movie, still, trajectories = out
    run_movie(params, stores, truth, movie, still)
    run_trajectories(params, raw, *fitted, trajectories)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "movie", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            by_name(snakemake.input.stores),
            path_or_none(snakemake.input.truth),
            Path(snakemake.input.raw),
            [Path(snakemake.input.nstm), Path(snakemake.input.motion)],
            [Path(path) for path in snakemake.output],
        )
