"""Rule convert: the raw store of a sample."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], inspect_json: Path, out_store: Path) -> None:
    from nstm.pipeline.convert import run_convert

    run_convert(params, inspect_json, out_store)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "convert", snakemake.threads):
        main(dict(snakemake.params.settings), Path(snakemake.input.inspect), Path(snakemake.output[0]))
