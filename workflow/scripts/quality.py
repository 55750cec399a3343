"""Rule quality: checks of the raw frames."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], raw_store: Path, out_json: Path, out_png: Path) -> None:
    from nstm.pipeline.quality import run_quality

    run_quality(params, raw_store, out_json, out_png)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "quality", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            Path(snakemake.input.raw),
            Path(snakemake.output[0]),
            Path(snakemake.output[1]),
        )
