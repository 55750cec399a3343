"""UBSIM, the learned iterations of blind SIM: its training; it needs no recording and no sample."""

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
        weights="blind/ubsim.safetensors",
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
        images=str(BLIND_IMAGES) if BLIND_IMAGES else None,
        settings=BLIND.training.model_dump(mode="json"),
    message:
        "Training UBSIM"
    script:
        "../scripts/train_blind.py"
