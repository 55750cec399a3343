"""What people look at."""


rule movie:
    """Show the time-lapse stores of a sample side by side."""
    input:
        stores=panels,
        motion=motion,
        trust=TRUST,
        truth=truth,
    output:
        movie=MOVIE,
        still=STILL,
        contents=MOVIE_CONTENTS,
    log:
        f"{LOGS}/movie.log",
    benchmark:
        f"{BENCHMARKS}/movie.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=settings("movie"),
    message:
        "Making the movie of {wildcards.sample}"
    script:
        "../scripts/movie.py"


rule figures:
    """Draw the figures of a sample, and make small copies of all its pictures for the page."""
    input:
        raw=RAW,
        of_system=system_files,
        illumination=ILLUMINATION,
        stores=images,
        motion=motion,
        first_fit=first_fit,
        metrics=METRICS,
        trust=TRUST,
        truth=truth,
        movie=MOVIE,
        still=STILL,
        quality=QUALITY_PICTURE,
    output:
        directory(FIGURES),
    log:
        f"{LOGS}/figures.log",
    benchmark:
        f"{BENCHMARKS}/figures.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=settings("figures"),
    message:
        "Drawing the figures of {wildcards.sample}"
    script:
        "../scripts/figures.py"


rule report:
    """One page for the experiment; a sample that a gate stopped stands in it with the reasons."""
    input:
        *[shown_of(sample) for sample in EXPERIMENT.samples],
    output:
        REPORT,
    log:
        "results/logs/report.log",
    benchmark:
        "results/benchmarks/report.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(30),
    params:
        settings=lambda wildcards: EXPERIMENT.stage_params("", "report"),
        folders=lambda wildcards: {
            name: SAMPLE.format(sample=name) for name in EXPERIMENT.samples
        },
    message:
        "Writing the page of the experiment"
    script:
        "../scripts/report.py"
