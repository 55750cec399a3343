"""Rule inspect: what the headers of a sample's files say."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], out_json: Path) -> None:
    from nstm.pipeline.inspect import run_inspect

    run_inspect(params, out_json)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "inspect", snakemake.threads):
        main(dict(snakemake.params.settings), Path(snakemake.output[0]))
