"""Rule illumination: the illumination of every acquisition, and their consensus."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], raw_store: Path, quality_json: Path, out_json: Path) -> None:
    from nstm.pipeline.illumination import run_illumination

    run_illumination(params, raw_store, quality_json, out_json)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "illumination", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            Path(snakemake.input.raw),
            Path(snakemake.input.quality),
            Path(snakemake.output[0]),
        )
