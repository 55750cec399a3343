"""Rule studies_blind: page, figures and pictures of blind SIM on images of no training."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(params: dict[str, Any], images: str | None, out: dict[str, Path]) -> None:
    from nstm.pipeline.blind_settings import BlindStudies
    from nstm.pipeline.blind_studies import run_studies_blind

    run_studies_blind(BlindStudies.model_validate(params), Path(images) if images else None, out)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "studies_blind", snakemake.threads):
        main(
            dict(snakemake.params.settings),
            snakemake.params.images,
            {name: Path(path) for name, path in snakemake.output.items()},
        )
