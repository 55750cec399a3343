"""Rule conventional: one conventional time-lapse store."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], raw_store: Path, illumination_json: Path, product: str, out_store: Path) -> None:
    from nstm.pipeline.conventional import run_conventional

    run_conventional(params, raw_store, illumination_json, product, out_store)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "conventional", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            Path(snakemake.input.raw),
            Path(snakemake.input.illumination),
            snakemake.wildcards.product,
            Path(snakemake.output[0]),
        )
