"""Rule report: the page of the experiment."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], sample_dirs: dict[str, Path], out_html: Path) -> None:
    from nstm.pipeline.report import run_report

    run_report(params, sample_dirs, out_html)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "report", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            {name: Path(folder) for name, folder in snakemake.params.folders.items()},
            Path(snakemake.output[0]),
        )
