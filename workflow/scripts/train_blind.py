"""Rule train_blind: weights of UBSIM, with their history and the curve of the loss."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], images: str | None, out_weights: Path) -> None:
    from nstm.pipeline.blind_settings import Training
    from nstm.pipeline.train_blind import run_training

    told = partial(print, flush=True)
    run_training(Training.model_validate(params), Path(images) if images else None, out_weights, told)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "train_blind", snakemake.threads):
        main(dict(snakemake.params.settings), snakemake.params.images, Path(snakemake.output.weights))
