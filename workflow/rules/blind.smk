"""UBSIM, the learned iterations of blind SIM: its training and its studies; they need no recording and no sample."""

from nstm.pipeline.blind_settings import TRAINED, networks_of

BLIND = EXPERIMENT.config.blind
BLIND_IMAGES = EXPERIMENT.blind_images()
#: A change of any image counts.
BLIND_FILES = (
    sorted(str(path) for path in BLIND_IMAGES.rglob("*.*") if speakable(path))
    if BLIND_IMAGES
    else []
)


rule train_blind:
    """Train UBSIM; a job that was stopped goes on from blind/ubsim.state.npz, which is no declared output."""
    input:
        BLIND_FILES,
    output:
        weights=str(TRAINED),
        history="blind/ubsim.json",
        curve="blind/ubsim.png",
    log:
        "blind/train_blind.log",
    benchmark:
        "blind/train_blind.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
        gpu=0,  # a profile raises it (set-resources)
    params:
        numerics=NUMERICS["blind"],
        images=str(BLIND_IMAGES) if BLIND_IMAGES else None,
        settings=BLIND.training.model_dump(mode="json"),
    message:
        "Training UBSIM"
    script:
        "../scripts/train_blind.py"


BLIND_STUDY = "blind/studies/{study}.json"
LPIPS_WEIGHTS = [str(path) for path in [EXPERIMENT.lpips_weights()] if path]


rule blind_training:
    """Train one network on one structure, for the study of domains; goes on from NETWORK.state.npz."""
    input:
        BLIND_FILES,
    output:
        weights="blind/studies/weights/{domain}/{network}.safetensors",
    log:
        "blind/studies/logs/{domain}_{network}.log",
    benchmark:
        "blind/studies/benchmarks/{domain}_{network}.tsv"
    wildcard_constraints:
        network="[a-z]+",
        domain="[^/]+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
        gpu=0,  # a profile raises it (set-resources)
    params:
        numerics=NUMERICS["blind"],
        images=str(BLIND_IMAGES) if BLIND_IMAGES else None,
        settings=lambda wildcards: BLIND.domain_params(**wildcards),
    message:
        "Training {wildcards.network} on {wildcards.domain}"
    script:
        "../scripts/blind_training.py"


rule blind_study:
    """Figures and picture of one study of blind SIM."""
    input:
        BLIND_FILES,
        weights=lambda wildcards: [
            (
                f"blind/studies/weights/{name}.safetensors"
                if "/" in name
                else str(EXPERIMENT.blind_weights(name))
            )
            for name in networks_of(wildcards.study, BLIND.studies, BLIND_IMAGES)
        ],
        lpips=lambda wildcards: (
            LPIPS_WEIGHTS if wildcards.study == "structures" else []
        ),
    output:
        record=BLIND_STUDY,
        figure="blind/studies/pictures/studies_blind_{study}.png",
    log:
        "blind/studies/logs/{study}.log",
    benchmark:
        "blind/studies/benchmarks/{study}.tsv"
    wildcard_constraints:
        study="[a-z]+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(120),
    params:
        numerics=NUMERICS["blind_studies"],
        images=str(BLIND_IMAGES) if BLIND_IMAGES else None,
        networks=lambda wildcards: networks_of(
            wildcards.study, BLIND.studies, BLIND_IMAGES
        ),
        settings=lambda wildcards: BLIND.study_params(wildcards.study),
    message:
        "Study of blind SIM: {wildcards.study}"
    script:
        "../scripts/blind_study.py"


rule studies_blind:
    """The page of the studies of blind SIM that the config asks for."""
    input:
        expand(BLIND_STUDY, study=BLIND.studies.studies),
    output:
        "blind/studies/studies_blind.md",
    log:
        "blind/studies/logs/studies_blind.log",
    benchmark:
        "blind/studies/benchmarks/studies_blind.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings={"numerics": NUMERICS["report"]},
    message:
        "Writing the page of the studies of blind SIM"
    script:
        "../scripts/studies_blind.py"
