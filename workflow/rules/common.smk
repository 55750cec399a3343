"""What the rules share: the checked experiment, names of files, and the gates."""

import json
import os
import re
from functools import partial

from snakemake.exceptions import WorkflowError

try:
    from nstm.acquisition import DataError
    from nstm.pipeline import simulate as simulation
    from nstm.pipeline.experiment import FITTED, NUMERICS, Experiment, is_made_here
except ModuleNotFoundError as error:
    raise WorkflowError(
        f"{error}: install the package into the environment of snakemake (pip install -e . in its folder)"
    )


def load_experiment():
    """The experiment of the first config on the command line, else of config/config.yaml."""
    given = workflow.config_settings.configfiles
    folder = os.path.dirname(
        os.path.abspath(given[0] if given else "config/config.yaml")
    )
    try:
        return Experiment.load(config, folder)
    except DataError as error:
        raise WorkflowError(str(error)) from None


EXPERIMENT = load_experiment()
KEEP = EXPERIMENT.config.keep
BASELINES = sorted(
    {name for sample in EXPERIMENT.samples for name in EXPERIMENT.baselines(sample)}
)

#: Simulated recordings that the sheet asks for.
SIMULATED = sorted(
    {
        case
        for row in EXPERIMENT.samples.values()
        for path in (row.path, row.truth)
        if path and (case := simulation.case_of(path))
    }
)
NOTHING = "(?!)"  # a pattern that no name matches

SAMPLE = "results/{sample}"
INSPECT = f"{SAMPLE}/inspect.json"
RAW = f"{SAMPLE}/raw.ome.zarr"
QUALITY = f"{SAMPLE}/quality.json"
QUALITY_PICTURE = f"{SAMPLE}/quality.png"
ILLUMINATION = f"{SAMPLE}/illumination.json"
JOB = f"{SAMPLE}/jobs/{{first}}-{{last}}.zarr"
FIT = f"{SAMPLE}/fits/{{first}}-{{last}}.zarr"
TIMELAPSE = f"{SAMPLE}/timelapse/{{product}}.ome.zarr"
METRICS = f"{SAMPLE}/metrics.json"
TRUST = f"{SAMPLE}/trust.json"
MOVIE = f"{SAMPLE}/movie.mp4"
MOVIE_CONTENTS = f"{SAMPLE}/movie.json"
STILL = f"{SAMPLE}/still.png"
FIGURES = f"{SAMPLE}/figures"
REPORT = "results/report.html"
LOGS = f"{SAMPLE}/logs"
BENCHMARKS = f"{SAMPLE}/benchmarks"


wildcard_constraints:
    sample="|".join(map(re.escape, EXPERIMENT.samples)),
    first=r"\d+",
    last=r"\d+",


def store(path, keep=True):
    """A zarr store as an output: a folder that is whole or absent, removed when done with unless kept."""
    return directory(path) if keep else temp(directory(path))


def settings(stage):
    """The settings that the results of a stage depend on, as a function of the wildcards."""
    return lambda wildcards: EXPERIMENT.stage_params(wildcards.sample, stage)


def growing(amount):
    """A resource that grows with every attempt of a job."""
    return lambda wildcards, attempt: amount * attempt


def local(path):
    """The path as the rules write it: relative inside the working directory."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative


def speakable(path):
    """Whether Snakemake takes the name as it stands: it has no way to quote its own marks."""
    return str(path).isprintable() and not re.search(r"[{}<>]|://", str(path))


def raw_files(wildcards):
    """Files of a sample that exist or are simulated; none where the sheet names nothing that is there."""
    row = EXPERIMENT.samples[wildcards.sample]
    if simulation.case_of(row.path):
        return [local(row.path)]
    return [local(path) for path in row.files() if speakable(path)]


def system_files(wildcards):
    """Files that the settings of a sample's system name; one that is not there fails its own samples only.

    The weights that the rule train_blind makes are trained first.
    """
    paths = EXPERIMENT.system_files(wildcards.sample).values()
    there = [path for path in paths if path.is_file() or is_made_here(path)]
    return [local(path) for path in there if speakable(path)]


def unspeakable_files(wildcards):
    """Size and date of the files that cannot be inputs, so that a change of one still counts."""
    files = [
        path
        for path in EXPERIMENT.samples[wildcards.sample].files()
        if not speakable(path)
    ]
    return [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in files]


def passed(name, sample):
    """What a gate wrote of a sample, or None where it stopped the sample."""
    path = getattr(checkpoints, name).get(sample=sample).output[0]
    with open(path) as file:
        found = json.load(file)
    return None if found["status"] == "fail" else found


def acquisitions(sample):
    """Number of acquisitions of a sample that passed its gates."""
    return passed("inspect", sample)["sizes"]["t"]


def per_job(pattern):
    """Files of all reconstruct jobs of a sample, as a function of the wildcards."""

    def files(wildcards):
        ranges = EXPERIMENT.jobs(wildcards.sample, acquisitions(wildcards.sample))
        return [
            pattern.format(sample=wildcards.sample, first=f"{a:05d}", last=f"{b:05d}")
            for a, b in ranges
        ]

    return files


def first_fit(wildcards):
    """Record of the first reconstruct job of a sample."""
    return per_job(FIT)(wildcards)[0]


def timelapses(sample, names):
    """Time-lapse stores of a sample by their names."""
    return [TIMELAPSE.format(sample=sample, product=name) for name in names]


def images(wildcards):
    """Time-lapse stores that show the sample: what was fitted, and the baselines."""
    fitted = [
        n
        for n in EXPERIMENT.fitted(wildcards.sample, acquisitions(wildcards.sample))
        if n != "motion"
    ]
    return timelapses(
        wildcards.sample, [*fitted, *EXPERIMENT.baselines(wildcards.sample)]
    )


def panels(wildcards):
    """Time-lapse stores of the movie, left to right; those that the sample does not have are left out."""
    names = EXPERIMENT.section(wildcards.sample, "movie").panels
    names = ["nstm" if name == "motion" else name for name in names]
    there = images(wildcards)
    wanted = timelapses(wildcards.sample, dict.fromkeys(names))
    return [path for path in wanted if path in there]


def motion(wildcards):
    """The displacement of a sample."""
    return timelapses(wildcards.sample, ["motion"])


def truth(wildcards):
    """The reference of a sample: a store, or another sample's conventional result; none where there is none."""
    reference = EXPERIMENT.samples[wildcards.sample].truth
    if reference is None:
        return []
    if reference not in EXPERIMENT.samples:
        return [local(reference)]
    if passed("inspect", reference) and passed("illumination", reference):
        return timelapses(reference, ["conventional"])
    return []


def gate_files(sample):
    """What a sample has whether or not it goes on: its inspection, and its gates where it could be read."""
    if not passed("inspect", sample):
        return [INSPECT.format(sample=sample)]
    return [path.format(sample=sample) for path in (INSPECT, QUALITY, ILLUMINATION)]


def shown_files(sample, wildcards):
    """What the page shows of a sample."""
    files = gate_files(sample)
    if len(files) > 1 and passed("illumination", sample):
        shown = (METRICS, TRUST, MOVIE, STILL, MOVIE_CONTENTS, FIGURES)
        files += [path.format(sample=sample) for path in shown]
    return files


def result_files(sample, wildcards):
    """All that stays of a sample."""
    files = shown_files(sample, wildcards)
    if len(files) > 1 and KEEP.raw:
        files.append(RAW.format(sample=sample))
    if METRICS.format(sample=sample) in files:
        fitted = EXPERIMENT.fitted(sample, acquisitions(sample))
        files += timelapses(sample, [*fitted, *EXPERIMENT.baselines(sample)])
        if KEEP.jobs:
            files += per_job(JOB)(Wildcards(sample))
    return files


class Wildcards:
    """The wildcards of a sample."""

    def __init__(self, sample):
        self.sample = sample


# One function per sample, so that no sample waits for the gates of another.
def shown_of(sample):
    return partial(shown_files, sample)


def results_of(sample):
    return partial(result_files, sample)
