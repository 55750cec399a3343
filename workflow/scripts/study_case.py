"""Rule study_case: one simulated case, fitted without and with coarse-to-fine."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], out_images: Path, out_record: Path) -> None:
    from nstm.pipeline.studies import run_study_case

    run_study_case(params, out_images, out_record)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "study_case", snakemake.threads):
        main(dict(snakemake.params.settings), Path(snakemake.output.images), Path(snakemake.output.record))
