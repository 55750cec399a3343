"""Rule study: table, figure and movies of a study."""

from pathlib import Path
from typing import TYPE_CHECKING

from nstm.pipeline.logging import paths, rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(records: list[Path], images: list[Path], out_tsv: Path, out_png: Path, out_movies: dict[str, Path]) -> None:
    from nstm.pipeline.studies import run_study

    run_study(records, images, out_tsv, out_png, out_movies)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "study", snakemake.threads):
        main(
            paths(snakemake.input.records),
            paths(snakemake.input.images),
            Path(snakemake.output.table),
            Path(snakemake.output.figure),
            {name: Path(path) for name, path in snakemake.output.items() if name not in ("table", "figure")},
        )
