"""Rule evaluate: figures of merit and trust of one sample."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import by_name, path_or_none, paths, rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    params: dict[str, Any],
    raw_store: Path,
    illumination_json: Path,
    stores: dict[str, Path],
    job_stores: list[Path],
    truth_store: Path | None,
    out_metrics: Path,
    out_trust: Path,
) -> None:
    from nstm.pipeline.evaluate import run_evaluate

    run_evaluate(params, raw_store, illumination_json, stores, job_stores, truth_store, out_metrics, out_trust)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "evaluate", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            Path(snakemake.input.raw),
            Path(snakemake.input.illumination),
            by_name(snakemake.input.stores),
            paths(snakemake.input.fits),
            path_or_none(snakemake.input.truth),
            Path(snakemake.output.metrics),
            Path(snakemake.output.trust),
        )
