"""Rule studies: the page of all studies."""

from pathlib import Path
from typing import TYPE_CHECKING

from nstm.pipeline.logging import paths, rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(records: list[Path], chosen: list[tuple[str, str]], out_page: Path) -> None:
    from nstm.pipeline.studies import run_studies

    run_studies(records, chosen, out_page)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "studies", snakemake.threads):
        main(
            paths(snakemake.input.records),
            [(engine, study) for engine, study in snakemake.params.chosen],
            Path(snakemake.output[0]),
        )
