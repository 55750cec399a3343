"""Rule simulate: the recording and the truth of one demo case."""

from pathlib import Path
from typing import TYPE_CHECKING

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(case: str, out_tif: Path, out_truth: Path) -> None:
    from nstm.pipeline.simulate import run_simulate

    run_simulate(case, out_tif, out_truth)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "simulate", snakemake.threads):
        main(snakemake.wildcards.case, Path(snakemake.output.raw), Path(snakemake.output.truth))
