"""Recordings of the demo, written as a microscope would: any file of a known case in a folder `simulated`."""


rule simulate:
    """Simulate the raw frames of one case, and the truth that they were made of."""
    output:
        raw=f"{{folder}}{simulation.FOLDER}/{{case}}{simulation.RAW_SUFFIX}",
        truth=store(f"{{folder}}{simulation.FOLDER}/{{case}}{simulation.TRUTH_SUFFIX}"),
    log:
        f"{{folder}}{simulation.FOLDER}/logs/{{case}}.log",
    benchmark:
        f"{{folder}}{simulation.FOLDER}/benchmarks/{{case}}.tsv"
    wildcard_constraints:
        folder="(.*/)?",
        case="|".join(map(re.escape, SIMULATED)) or NOTHING,
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        settings={"numerics": NUMERICS["simulate"]},
    message:
        "Simulating {wildcards.case}"
    script:
        "../scripts/simulate.py"
