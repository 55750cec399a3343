"""Rule studies_blind: the page of the studies of blind SIM."""

from pathlib import Path
from typing import TYPE_CHECKING

from nstm.pipeline.logging import paths, rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(records: list[Path], out_page: Path) -> None:
    from nstm.pipeline.blind_page import run_page

    run_page(records, out_page)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "studies_blind", snakemake.threads):
        main(paths(snakemake.input), Path(snakemake.output[0]))
