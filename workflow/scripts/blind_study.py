"""Rule blind_study: figures and picture of one study of blind SIM."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from nstm.pipeline.logging import path_or_none, rule_log

if TYPE_CHECKING:
    from snakemake.script import snakemake


def main(
    study: str,
    params: dict[str, Any],
    images: str | None,
    weights: dict[str, str],
    out_json: Path,
    out_png: Path,
    lpips: Path | None,
) -> None:
    from nstm.pipeline.blind_studies import run_blind_study

    run_blind_study(study, params, Path(images) if images else None, weights, out_json, out_png, lpips)


if __name__ == "__main__":
    with rule_log(snakemake.log[0], "blind_study", snakemake.threads):
        main(
            snakemake.wildcards.study,
            dict(snakemake.params.settings),
            snakemake.params.images,
            dict(zip(snakemake.params.networks, map(str, snakemake.input.weights), strict=True)),
            Path(snakemake.output.record),
            Path(snakemake.output.figure),
            path_or_none(snakemake.input.lpips),
        )
