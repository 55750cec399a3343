"""Rule reconstruct: the space-time fit of a batch of acquisitions."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    params: dict[str, Any],
    raw_store: Path,
    illumination_json: Path,
    first: int,
    last: int,
    out_store: Path,
    out_record: Path,
    **where: Any,
) -> None:
    from nstm.pipeline.fits import keep_record
    from nstm.pipeline.reconstruct import run_reconstruct

    run_reconstruct(params, raw_store, illumination_json, first, last, out_store, **where)
    keep_record(out_store, out_record)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "reconstruct", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            *map(Path, (snakemake.input.raw, snakemake.input.illumination)),
            *map(int, (snakemake.wildcards.first, snakemake.wildcards.last)),
            *map(Path, (snakemake.output.job, snakemake.output.record)),
            checkpoints=Path(".checkpoints"),
            gpus=int(snakemake.resources.get("gpu", 0) or "gpu" in snakemake.resources.get("gres", "")),
            allow_cpu=snakemake.config.get("allow_cpu", False),
            attempt=int(snakemake.resources.attempt),
        )
