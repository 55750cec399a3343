"""The command ``nstm``: what is useful beside the workflow. The work is done in :mod:`nstm.pipeline`."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

app = typer.Typer(
    help="Motion-resolved reconstruction for multi-shot microscopes. Whole experiments: snakemake.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

F = TypeVar("F", bound=Callable[..., Any])
ConfigOption = Annotated[Path, typer.Option("--config", "-c", help="config with the imaging system")]
SystemOption = Annotated[
    str | None, typer.Option("--system", "-s", help="key of `systems:`; needed when the config has several")
]
ChannelOption = Annotated[str | None, typer.Option(help="channel, by name or number")]
AcquisitionsOption = Annotated[str | None, typer.Option(help="slice of the acquisitions, e.g. 0:20:2")]
CropOption = Annotated[str | None, typer.Option(help="part of the field, y0:y1,x0:x1 in camera pixels")]
ResultsArgument = Annotated[Path, typer.Argument(help="results folder of the experiment")]


def plain_errors(command: F) -> F:
    """Show a user's mistake as one readable message and end with code 2."""

    @functools.wraps(command)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        from nstm.acquisition import DataError

        try:
            return command(*args, **kwargs)
        except DataError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(2) from None

    return wrapped  # type: ignore[return-value]  # the signature is that of what it wraps


@app.command()
@plain_errors
def inspect(
    file: Annotated[str | None, typer.Argument(help="file, folder or glob; left out: all samples of --config")] = None,
    config: Annotated[Path | None, typer.Option("--config", "-c", help="also check it against this config")] = None,
    system: SystemOption = None,
    channel: ChannelOption = None,
    position: Annotated[str | None, typer.Option(help="one of several positions, by name or number")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Show what is known of a recording: axes, order, times, optics, counts, and what is missing.

    With a config alone every sample of its sheet is shown, one line each. Ends with code 1 when something cannot
    be used.
    """
    from nstm.acquisition import DataError
    from nstm.pipeline.facts_text import as_json_text, experiment_text, file_text
    from nstm.pipeline.look import look_at_experiment, look_at_file

    if file is None:
        if config is None or system or channel or position:
            raise DataError("name a FILE, or give --config alone to inspect all samples of its sheet")
        samples = look_at_experiment(config)
        typer.echo(as_json_text(samples) if as_json else experiment_text(samples))
        failed = any(found["status"] == "fail" for found in samples)
    else:
        found = look_at_file(file, config, system, channel=channel, position=position)
        typer.echo(as_json_text(found) if as_json else file_text(found))
        failed = found["status"] == "fail"
    if failed:
        raise typer.Exit(1)


@app.command()
@plain_errors
def init(folder: Annotated[Path, typer.Argument(help="folder with recordings")]) -> None:
    """Write a config and a sample sheet for the recordings in FOLDER, and list what the files do not say."""
    from nstm.pipeline.init import todo_text, write_experiment

    typer.echo(todo_text(write_experiment(folder)))


@app.command()
@plain_errors
def simulate(
    kind: Annotated[str, typer.Argument(help="case, e.g. er_moving; `list` shows all")],
    out: Annotated[Path | None, typer.Argument(help="folder for the raw file and its truth")] = None,
) -> None:
    """Simulate a recording with known truth into the folder OUT."""
    from nstm.acquisition import DataError
    from nstm.pipeline.simulate import RAW_SUFFIX, TRUTH_SUFFIX, cases, run_simulate

    if kind == "list":
        typer.echo("\n".join(cases()))
        return
    if kind not in cases():
        raise DataError(f"{kind!r} is no known case; allowed: {', '.join(cases())}")
    if out is None:
        raise DataError("name a folder to write to: nstm simulate KIND OUT")
    raw, truth = out / f"{kind}{RAW_SUFFIX}", out / f"{kind}{TRUTH_SUFFIX}"
    run_simulate(kind, raw, truth)
    typer.echo(f"{raw}\n{truth}")


@app.command()
@plain_errors
def reconstruct(
    file: Annotated[str, typer.Argument(help="file, folder or glob of one recording")],
    out: Annotated[Path, typer.Argument(help="time-lapse store to write, NAME.ome.zarr")],
    config: ConfigOption,
    system: SystemOption = None,
    channel: ChannelOption = None,
    acquisitions: AcquisitionsOption = None,
    crop: CropOption = None,
    preview: Annotated[
        bool,
        typer.Option(
            "--preview",
            help="a part (128 x 128 pixels of three acquisitions where --crop and --acquisitions say no other) with a "
            "movie beside OUT, and what the whole would cost",
        ),
    ] = False,
) -> None:
    """Reconstruct one recording, or a part of it, without the workflow."""
    from nstm.pipeline.preview import preview_file
    from nstm.pipeline.single import read_config, reconstruct_file

    row = {"path": file, "channel": channel or "", "acquisitions": acquisitions or "", "crop": crop or ""}
    given = read_config(config), config.absolute().parent, system, row, out
    shown = preview_file(*given) if preview else None
    for warning in shown.warnings if shown else reconstruct_file(*given):
        typer.echo(f"Warning: {warning}", err=True)
    typer.echo(str(out))
    if shown:
        typer.echo(f"{shown.movie}\n{shown.cost}")


@app.command()
@plain_errors
def otf(
    beads: Annotated[str, typer.Argument(help="recording of one bead, in the form of the experiment's recordings")],
    out: Annotated[Path, typer.Argument(help="TIFF to write, for `optics.otf`")],
    config: ConfigOption,
    system: SystemOption = None,
    channel: ChannelOption = None,
    crop: CropOption = None,
) -> None:
    """Measure the transfer function of a microscope from the stack of one bead."""
    from nstm.pipeline.single import read_config
    from nstm.pipeline.transfer import measure_transfer

    row = {"path": beads, "channel": channel or "", "crop": crop or ""}
    measure_transfer(read_config(config), config.absolute().parent, system, row, out)
    typer.echo(str(out))


@app.command()
@plain_errors
def train_blind(
    out: Annotated[Path, typer.Argument(help="weights to write, NAME.safetensors")],
    images: Annotated[Path | None, typer.Option(help="folder with a folder of images per structure")] = None,
    options: Annotated[str | None, typer.Option("--set", help="key=value,... such as epochs=50,width=11")] = None,
) -> None:
    """Train UBSIM, the learned iterations of blind SIM, on images or (without) on simulated structures."""
    from nstm.pipeline.train_blind import run_training, settings_of

    run_training(settings_of(options), images, out, lambda line: typer.echo(line, err=True))
    typer.echo(str(out))


@app.command()
@plain_errors
def export(
    store: Annotated[Path, typer.Argument(help="raw or time-lapse store, e.g. results/SAMPLE/timelapse/nstm.ome.zarr")],
    out: Annotated[Path, typer.Argument(help="TIFF to write")],
    times: Annotated[str | None, typer.Option(help="part along t: a number, or start:stop:step")] = None,
) -> None:
    """Write a store as an ImageJ hyperstack with scale and times."""
    from nstm.pipeline.export import export_imagej

    export_imagej(store, out, times)
    typer.echo(str(out))


@app.command()
@plain_errors
def view(
    path: Annotated[Path, typer.Argument(help="results/SAMPLE, or one of the stores in it")],
    as_list: Annotated[bool, typer.Option("--list", help="only list the layers; needs no napari")] = False,
) -> None:
    """Open raw frames, reconstructions, motion and tracks in napari."""
    from nstm.pipeline.layers import layers_text, view_layers

    if as_list:
        typer.echo(layers_text(view_layers(path)))
        return
    from nstm.pipeline.view import view as show

    show(path)


@app.command()
@plain_errors
def provenance(
    path: Annotated[Path, typer.Argument(help="any result: a store, a file, the folder of a sample, the report")],
    check: Annotated[bool, typer.Option("--check", help="compare the source files with what was recorded")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """Say from which files, with which settings and versions a result was made; code 1 when a source has changed."""
    from nstm.pipeline.facts_text import as_json_text
    from nstm.pipeline.provenance import check_sources, describe_provenance, provenance_text

    description = describe_provenance(path)
    checks = check_sources(description) if check else None
    found = {**description, "checks": checks} if check else description
    typer.echo(as_json_text(found) if as_json else provenance_text(description, checks))
    if any(entry["state"] != "unchanged" for entry in checks or []):
        raise typer.Exit(1)


@app.command()
@plain_errors
def status(
    results: ResultsArgument = Path("results"),
    watch: Annotated[
        float | None, typer.Option(min=1, help="say it again every so many seconds until all samples have ended")
    ] = None,
) -> None:
    """Say how far each sample is, and how long its fits may still take; ends with code 1 when one failed."""
    import time

    from nstm.pipeline.status import read_status, status_text

    statuses = read_status(results)
    typer.echo(status_text(statuses))
    while watch and any(s.state == "unfinished" for s in statuses):
        time.sleep(watch)
        statuses = read_status(results)
        typer.echo(f"\n{time.strftime('%H:%M:%S')}\n{status_text(statuses)}")
    if any(s.state == "failed" for s in statuses):
        raise typer.Exit(1)


@app.command()
@plain_errors
def summary(results: ResultsArgument = Path("results")) -> None:
    """Show the figures of every sample and method."""
    from nstm.pipeline.status import read_status, summary_text

    typer.echo(summary_text(read_status(results)))


if __name__ == "__main__":
    app()
