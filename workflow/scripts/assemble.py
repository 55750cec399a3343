"""Rule assemble: one time-lapse store from the stores of all jobs."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import paths, rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], raw_store: Path, job_stores: list[Path], product: str, out_store: Path) -> None:
    from nstm.pipeline.assemble import run_assemble

    run_assemble(params, raw_store, job_stores, product, out_store)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "assemble", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            Path(snakemake.input.raw),
            paths(snakemake.input.jobs),
            snakemake.wildcards.product,
            Path(snakemake.output[0]),
        )
