"""The paper's studies on simulated targets, `snakemake studies`; they need no recording and no sample."""

from nstm.pipeline.study_runs import case_files

STUDIES = EXPERIMENT.config.studies
STUDY_CASE = "studies/cases/{engine}/{study}/{case}"
STUDY_TABLE = "studies/{engine}_{study}.tsv"
STUDY_PICTURE = "studies/pictures/studies_{engine}_{study}"


rule study_case:
    """Simulate one case of a study and fit it without and with coarse-to-fine."""
    output:
        images=f"{STUDY_CASE}.npz",
        record=f"{STUDY_CASE}.json",
    log:
        "studies/logs/{engine}/{study}/{case}.log",
    benchmark:
        "studies/benchmarks/{engine}/{study}/{case}.tsv"
    wildcard_constraints:
        engine="|".join(type(STUDIES).model_fields),
        study=r"[a-z]+",
        case=r"(dpc|sim|diffusercam)-[a-z0-9.-]+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(3000),
        runtime=growing(120),
        gpu=0,  # a profile raises it (set-resources)
    params:
        settings=lambda wildcards: {
            "numerics": [NUMERICS[s] for s in ("simulate", "reconstruct", "evaluate")],
            **STUDIES.case_params(wildcards.engine, wildcards.study, wildcards.case),
        },
    message:
        "Study {wildcards.study}, {wildcards.engine}: {wildcards.case}"
    script:
        "../scripts/study_case.py"


rule study:
    """Table, figure and movies of a study."""
    input:
        records=lambda wildcards: case_files(f"{STUDY_CASE}.json", **wildcards),
        images=lambda wildcards: case_files(f"{STUDY_CASE}.npz", **wildcards),
    output:
        table=STUDY_TABLE,
        figure=f"{STUDY_PICTURE}.png",
        dpc=f"{STUDY_PICTURE}_dpc.mp4",
        sim=f"{STUDY_PICTURE}_sim.mp4",
    log:
        "studies/logs/{engine}_{study}.log",
    benchmark:
        "studies/benchmarks/{engine}_{study}.tsv"
    wildcard_constraints:
        engine="|".join(type(STUDIES).model_fields),
        study=r"(?!rows)[a-z]+",
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(2000),
        runtime=growing(20),
    params:
        settings={"numerics": NUMERICS["movie"]},
    message:
        "Showing the study {wildcards.study} of {wildcards.engine}"
    script:
        "../scripts/study.py"


use rule study as study_of_rows with:
    output:
        table=STUDY_TABLE,
        figure=f"{STUDY_PICTURE}.png",
        diffusercam=f"{STUDY_PICTURE}_diffusercam.mp4",
    wildcard_constraints:
        engine="|".join(type(STUDIES).model_fields),
        study="rows",


rule studies:
    """The page of all studies that the config asks for."""
    input:
        records=lambda wildcards: [
            path
            for engine, study in STUDIES.chosen
            for path in case_files(f"{STUDY_CASE}.json", engine, study)
        ],
        shown=[
            STUDY_TABLE.format(engine=engine, study=study)
            for engine, study in STUDIES.chosen
        ],
    output:
        "studies/studies.md",
    log:
        "studies/logs/studies.log",
    benchmark:
        "studies/benchmarks/studies.tsv"
    conda:
        "../../environment.yml"
    threads: 1
    resources:
        mem_mb=growing(1000),
        runtime=growing(10),
    params:
        settings={"numerics": NUMERICS["report"]},
        chosen=STUDIES.chosen,
    message:
        "Writing the page of the studies"
    script:
        "../scripts/studies.py"
