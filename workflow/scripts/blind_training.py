"""Rule blind_training: one network on one structure, for the study of domains."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], images: str | None, out_weights: Path) -> None:
    from nstm.pipeline.blind_studies import run_domain_training

    run_domain_training(params, Path(images) if images else None, out_weights, partial(print, flush=True))


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "blind_training", snakemake.threads):
        main(dict(snakemake.params.settings), snakemake.params.images, Path(snakemake.output.weights))
