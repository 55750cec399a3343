"""The space-time fit, the conventional results beside it, and what can be said of both."""


rule reconstruct:
    """Fit scene and motion of a batch of acquisitions; the only rule that asks for a GPU where there is one.

    A job that was stopped goes on from .checkpoints, which holds no declared output.
    """
    input:
        raw=RAW,
        of_system=system_files,
        illumination=ILLUMINATION,
    output:
        job=store(JOB, KEEP.jobs),
        record=store(FIT),
    log:
        f"{LOGS}/reconstruct_{{first}}-{{last}}.log",
    benchmark:
        f"{BENCHMARKS}/reconstruct_{{first}}-{{last}}.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(4000),
        runtime=growing(240),
        gpu=0,  # a profile raises it (set-resources)
        attempt=growing(1),
    params:
        settings=lambda wildcards: EXPERIMENT.stage_params(
            wildcards.sample, "reconstruct", int(wildcards.first), int(wildcards.last)
        ),
    message:
        "Reconstructing acquisitions {wildcards.first} to {wildcards.last} of {wildcards.sample}"
    script:
        "../scripts/reconstruct.py"


rule conventional:
    """Reconstruct a sample as it is usually done, in a moving window over its orientations."""
    input:
        raw=RAW,
        of_system=system_files,
        illumination=ILLUMINATION,
    output:
        store(TIMELAPSE),
    log:
        f"{LOGS}/{{product}}.log",
    benchmark:
        f"{BENCHMARKS}/{{product}}.tsv"
    wildcard_constraints:
        product="|".join(map(re.escape, BASELINES)),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=settings("conventional"),
    message:
        "Computing {wildcards.product} of {wildcards.sample}"
    script:
        "../scripts/conventional.py"


rule assemble:
    """Write one time-lapse store from the stores of all jobs; nothing else writes it."""
    input:
        raw=RAW,
        of_system=system_files,
        jobs=per_job(JOB),
    output:
        store(TIMELAPSE),
    log:
        f"{LOGS}/{{product}}.log",
    benchmark:
        f"{BENCHMARKS}/{{product}}.tsv"
    wildcard_constraints:
        product="|".join(FITTED),
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=settings("assemble"),
    message:
        "Assembling {wildcards.product} of {wildcards.sample}"
    script:
        "../scripts/assemble.py"


rule evaluate:
    """Figures of merit against the truth where there is one, and what not to believe."""
    input:
        raw=RAW,
        of_system=system_files,
        illumination=ILLUMINATION,
        stores=images,
        fits=per_job(FIT),
        truth=truth,
    output:
        metrics=METRICS,
        trust=TRUST,
    log:
        f"{LOGS}/evaluate.log",
    benchmark:
        f"{BENCHMARKS}/evaluate.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=settings("evaluate"),
    message:
        "Evaluating {wildcards.sample}"
    script:
        "../scripts/evaluate.py"
