"""From the microscope's files to checked frames and what is known of their illumination."""


checkpoint inspect:
    """Look at a sample's files: axes, times, optics, counts of a few planes. A gate: what cannot be read goes no further."""
    input:
        raw=raw_files,
        of_system=system_files,
    output:
        INSPECT,
    log:
        f"{LOGS}/inspect.log",
    benchmark:
        f"{BENCHMARKS}/inspect.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1500),
        runtime=growing(10),
    params:
        settings=settings("inspect"),
        others=unspeakable_files,
    message:
        "Inspecting the files of {wildcards.sample}"
    script:
        "../scripts/inspect_files.py"


rule convert:
    """Write the frames of a sample with their times into one store."""
    input:
        raw=raw_files,
        of_system=system_files,
        inspect=INSPECT,
    output:
        store(RAW, KEEP.raw),
    log:
        f"{LOGS}/convert.log",
    benchmark:
        f"{BENCHMARKS}/convert.tsv"
    conda:
        "../../environment.yml"
    threads: 2
    resources:
        mem_mb=growing(2000),
        runtime=growing(120),
    params:
        settings=settings("convert"),
        others=unspeakable_files,
    message:
        "Converting {wildcards.sample}"
    script:
        "../scripts/convert.py"


rule quality:
    """Check the raw frames: saturation, damage, light, noise, stripes, blur, modulation, motion."""
    input:
        raw=RAW,
        of_system=system_files,
    output:
        QUALITY,
        QUALITY_PICTURE,
    log:
        f"{LOGS}/quality.log",
    benchmark:
        f"{BENCHMARKS}/quality.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=settings("quality"),
    message:
        "Checking the frames of {wildcards.sample}"
    script:
        "../scripts/quality.py"


checkpoint illumination:
    """Estimate the illumination of every acquisition. A gate: a sample that fails here or in quality stops."""
    input:
        raw=RAW,
        of_system=system_files,
        quality=QUALITY,
    output:
        ILLUMINATION,
    log:
        f"{LOGS}/illumination.log",
    benchmark:
        f"{BENCHMARKS}/illumination.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(60),
    params:
        settings=settings("illumination"),
    message:
        "Estimating the illumination of {wildcards.sample}"
    script:
        "../scripts/illumination.py"
