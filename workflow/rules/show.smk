"""What people look at."""


rule movie:
    """Show the time-lapse stores of a sample side by side, and the paths of the sample."""
    input:
        stores=panels,
        truth=truth,
        raw=RAW,
        of_system=system_files,
        nstm=f"{SAMPLE}/timelapse/nstm.ome.zarr",
        motion=f"{SAMPLE}/timelapse/motion.ome.zarr",
    output:
        movie=MOVIE,
        still=STILL,
        trajectories=TRAJECTORIES,
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
