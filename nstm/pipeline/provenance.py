"""Where a product of a run comes from: source files, versions and settings, read back from what the stores carry.

Raw stores, time lapses and the records of fits carry their own provenance; figures, movies and pages do not, so it
is taken from the stores beside them.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from nstm.acquisition import DataError
from nstm.io.jsonfile import plain
from nstm.io.protocol import shown
from nstm.pipeline.status import one_line
from nstm.settings import SECTIONS, SystemSettings
from nstm.systems import registered

RAW = "raw.ome.zarr"
_FITS, _TIMELAPSES = "fits/*.zarr", "timelapse/*.ome.zarr"
#: Files of a sample: what they are, and the stores that they were made from.
_FILES = {
    "inspect.json": ("inspection of the files", ()),
    "quality.json": ("checks of the raw frames", (RAW,)),
    "quality.png": ("figure of the checks of the raw frames", (RAW,)),
    "illumination.json": ("calibration of the illumination", (RAW,)),
    "metrics.json": ("figures of merit", (RAW, _FITS, _TIMELAPSES)),
    "trust.json": ("verdict on the results", (RAW, _FITS)),
    "movie.mp4": ("movie", (RAW, _FITS, _TIMELAPSES)),
    "still.png": ("still figure", (RAW, _FITS, _TIMELAPSES)),
    "trajectories.png": ("paths of the sample", (RAW, _FITS, _TIMELAPSES)),
}
_FITTED = ("nstm", "motion", "static")
#: Source files that a text names one by one.
_SHOWN = 10
_SUBFOLDERS = ("timelapse", "jobs", "fits")
_CHOICES = ("channel", "position", "acquisitions", "crop", "truth")
_SOURCE = (
    *("path", "format", "axes", "order", "order_origin", "flips", "dropped_planes", "channel", "position"),
    *("acquisitions", "crop", "orientation_from_acquisition"),
)


@dataclass(frozen=True)
class Record:
    """What one store carries: its stage, and where its data come from."""

    place: str
    kind: str  # raw, time lapse, fit, or simulation
    label: str
    provenance: Mapping[str, Any]
    source: Mapping[str, Any]
    failed: str = ""  # why a raw store holds no frames

    @property
    def params(self) -> Mapping[str, Any]:
        """Settings of the stage."""
        return _mapping(self.provenance.get("params"))

    @property
    def stage(self) -> str:
        """The rule that wrote it."""
        if self.kind == "time lapse":
            return "conventional" if "conventional" in self.params else "assemble"
        return {"raw": "convert", "fit": "reconstruct"}.get(self.kind, "simulate")

    @property
    def converted(self) -> Mapping[str, Any]:
        """The provenance of the raw store that it was made from, or is."""
        return self.provenance if self.kind == "raw" else _mapping(self.source.get("provenance"))


def describe_provenance(path: str | Path) -> dict[str, Any]:
    """What is known of the origin of a product.

    Args:
        path: a store, a file or the folder of a sample, or the page or folder of an experiment.

    Returns:
        JSON-able: ``product``, ``sample``, ``nstm`` and ``versions`` of what wrote it (``None`` and empty where it
        does not say), ``chain`` (each store on the way to it: ``place``, ``stage``, ``nstm``, ``numerics`` and
        ``settings`` that differ from the defaults, by key), ``source`` (``files`` with path, bytes and sha256;
        axes, order, flips, what was chosen), ``time_origin``, ``optics``, ``notes``. Of an experiment ``samples``,
        one such description each.

    Raises:
        DataError: nothing there, or no product of a run.
    """
    path = Path(path).absolute()
    if not path.exists():
        raise DataError(f"{shown(path)}: there is nothing of this name")
    if (path / "zarr.json").is_file():
        return _described(path, *_of_store(path))
    if path.is_file() and path.name in _FILES:
        about, patterns = _FILES[path.name]
        return _described(path, about, None, _records(path.parent, patterns), path.parent.name)
    folder = path.parent if path.name == "report.html" else path
    if folder.is_dir() and _is_sample(folder):
        found = _records(folder, (RAW, _FITS, _TIMELAPSES))
        return _described(path, "results of a sample", None, found, folder.name)
    samples = sorted(p for p in folder.iterdir() if p.is_dir() and _is_sample(p)) if folder.is_dir() else []
    if samples:
        about = "page of an experiment" if path.name == "report.html" else "results of an experiment"
        return {"path": str(path), "product": about, "samples": [describe_provenance(p) for p in samples]}
    raise DataError(
        f"{shown(path)}: no product of a run: name a store (*.zarr), one of {', '.join(_FILES)}, report.html, "
        "or the folder of a sample"
    )


def check_sources(description: Mapping[str, Any], hashes: bool = True) -> list[dict[str, str]]:
    """Whether the source files still are what was read.

    Args:
        description: see :func:`describe_provenance`.
        hashes: also read the files and compare their SHA-256.

    Returns:
        ``path`` and ``state`` of every file: ``unchanged``, or what is wrong in words.
    """
    files = {str(file["path"]): file for one in _every(description) for file in one["source"].get("files", [])}
    return [{"path": path, "state": _state(file, hashes)} for path, file in files.items()]


def differing(params: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of a stage that are not the defaults, by their key; what has no default is always there."""
    found: dict[str, Any] = {}
    system = _mapping(params.get("system"))
    kinds = registered()
    model = kinds[system["kind"]].Settings if system.get("kind") in kinds else SystemSettings
    found |= _differences(system, model, "system.")
    for name, section in SECTIONS.items():
        found |= _differences(_mapping(params.get(name)), section, f"{name}.")
    row = _mapping(params.get("sample"))
    return {**found, **{f"sample.{key}": row[key] for key in _CHOICES if row.get(key) is not None}}


def provenance_text(description: Mapping[str, Any], checks: Sequence[Mapping[str, str]] | None = None) -> str:
    """A description for people, and what :func:`check_sources` found."""
    lines = [f"{one_line(description['path'])}: {one_line(description['product'])}"]
    for one in _every(description):
        lines += _lines(one)
    if checks is not None:
        wrong = [f"  {one_line(c['path'])}: {one_line(c['state'])}" for c in checks if c["state"] != "unchanged"]
        lines += [f"checked: {len(checks) - len(wrong)} of {len(checks)} source files unchanged", *wrong]
    return "\n".join(lines)


def _lines(one: Mapping[str, Any]) -> list[str]:
    facts = [f"sample {one['sample'] or 'not named'}"]
    if one["nstm"]:
        others = ", ".join(f"{name} {version}" for name, version in one["versions"].items() if name != "nstm")
        facts.append(f"written by nstm {one['nstm']}{f' ({others})' if others else ''}")
    files = one["source"].get("files", [])
    facts += [f"from {file['path']}, {file['bytes']} bytes, sha256 {file['sha256']}" for file in files[:_SHOWN]]
    if len(files) > _SHOWN:
        size = sum(file["bytes"] for file in files)
        facts.append(f"and {len(files) - _SHOWN} more files; all {len(files)} have {size} bytes")
    facts += [f"{key}: {_words(value)}" for key, value in one["source"].items() if key not in ("files", "path")]
    if one["time_origin"]:
        facts.append(f"times: {one['time_origin']}")
    for name, entry in one["optics"].items():
        facts.append(f"optics.{name}: {_words(entry['value'])}{_in_brackets(entry['origin'])}")
    facts += _stages(one["chain"])
    facts += [f"note: {note}" for note in one["notes"]]
    return [f"  {one_line(fact, 5000)}" for fact in facts]


def _stages(chain: Sequence[Mapping[str, Any]]) -> list[str]:
    """What wrote the stores, with the settings that all have said once; stores written alike share a line."""
    told = [step["settings"] for step in chain if step["settings"]]
    common = {key: value for key, value in (told[0] if told else {}).items() if all(s.get(key) == value for s in told)}
    groups: dict[str, list[str]] = {}
    for step in chain:
        own = ", ".join(f"{k} = {_words(v)}" for k, v in step["settings"].items() if k not in common)
        line = f"nstm {step['nstm'] or 'unknown'}{f', {own}' if own else ''}"
        groups.setdefault(f"{step['stage']}: {{}}, {line}", []).append(step["place"])
    lines = [f"setting {key} = {_words(value)}" for key, value in common.items()]
    for line, places in groups.items():
        more = f" and {len(places) - 3} more" if len(places) > 3 else ""
        lines.append(line.replace("{}", ", ".join(places[:3]) + more, 1))
    return lines


def _words(value: Any) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} = {item}" for key, item in value.items())
    return str(value)


def _in_brackets(text: Any) -> str:
    return f" ({text})" if text else ""


def _described(
    path: Path, product: str, own: Record | None, records: list[Record], sample: str | None = None
) -> dict[str, Any]:
    chain = [*records, *([own] if own else [])]
    last = own or (chain[-1] if chain else None)
    converted = next((record.converted for record in [*reversed(chain)] if record.converted), {})
    source = _mapping(last.source if last else None)
    files = converted.get("files")
    return {
        "path": str(path),
        "product": product,
        "sample": converted.get("sample", sample),
        "nstm": own.provenance.get("nstm") if own else None,
        "versions": dict(_mapping(own.provenance.get("versions"))) if own else {},
        "chain": [_step(record) for record in _with_convert(chain, converted)],
        "source": {
            **{key: source[key] for key in _SOURCE if source.get(key) not in (None, [], {})},
            "files": [dict(file) for file in files if _is_file(file)] if isinstance(files, list) else [],
        },
        "time_origin": converted.get("time_origin") or (last.provenance.get("time_origin") if last else None),
        "optics": _optics(converted, source),
        "notes": _notes(own, records, chain),
    }


def _of_store(store: Path) -> tuple[str, Record, list[Record], str | None]:
    """What a store is, its record, those of the stores that it was made from, and its sample."""
    record = _record(store, store.name)
    if record is None:
        raise DataError(f"{shown(store)}: not a store of nstm (no block 'nstm' in its attributes)")
    about = {"raw": "raw frames", "time lapse": f"time lapse ({record.label})", "fit": "fits of a batch"}
    if store.parent.name not in _SUBFOLDERS:
        return about.get(record.kind, record.kind), record, [], None
    patterns = (RAW, _FITS) if store.name.removesuffix(".ome.zarr") in _FITTED else (RAW,)
    folder = store.parent.parent
    return about.get(record.kind, record.kind), record, _records(folder, patterns), folder.name


def _is_sample(folder: Path) -> bool:
    return (folder / RAW / "zarr.json").is_file() or any((folder / name).is_file() for name in _FILES)


def _records(folder: Path, patterns: tuple[str, ...]) -> list[Record]:
    """Records of the stores of a sample that are there."""
    stores = [store for pattern in patterns for store in sorted(folder.glob(pattern))]
    found = (_record(store, store.relative_to(folder).as_posix()) for store in stores)
    return [record for record in found if record is not None]


def _record(store: Path, place: str) -> Record | None:
    """What a store carries; ``None`` where it cannot be read or carries nothing."""
    try:
        content = json.loads((store / "zarr.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    block = _mapping(_mapping(_mapping(content).get("attributes")).get("nstm"))
    if not block:
        return None
    provenance = _mapping(block.get("provenance"))
    if "status" in block:
        failed = _reasons(block.get("reasons")) if block["status"] == "fail" else ""
        return Record(place, "raw", "raw frames", provenance, _mapping(block.get("source")), failed)
    kind = "fit" if "acquisitions" in block else "time lapse" if "params" in provenance else "simulation"
    return Record(place, kind, str(block.get("label", "")), provenance, _mapping(provenance.get("source")))


def _with_convert(chain: list[Record], converted: Mapping[str, Any]) -> list[Record]:
    """``chain`` with the conversion in it, where the raw store is gone, and what a store says of earlier stages."""
    earlier: list[Record] = []
    if converted and not any(record.kind == "raw" for record in chain):
        earlier.append(Record(f"{RAW} (removed)", "raw", "", converted, {}))
    if not any(record.kind == "fit" for record in chain):
        for record in chain:
            before = _mapping(_mapping(record.provenance.get("before")).get("reconstruct"))
            if before:
                earlier.append(
                    Record(f"jobs (in {record.place})", "fit", "", {**record.provenance, "params": before}, {})
                )
    return [*earlier, *chain]


def _step(record: Record) -> dict[str, Any]:
    return {
        "place": record.place,
        "stage": record.stage,
        "nstm": record.provenance.get("nstm"),
        "numerics": record.params.get("numerics"),
        "settings": differing(record.params),
    }


def _notes(own: Record | None, records: list[Record], chain: list[Record]) -> list[str]:
    notes = []
    if own is None and records:
        notes.append("it carries no record of its own: this is what the stores beside it carry")
    notes += [
        f"{record.place}: the sample could not be converted: {record.failed}" for record in chain if record.failed
    ]
    if not any(record.provenance for record in chain):
        notes.append("there is no record of its origin")
    found = sorted({str(record.provenance["nstm"]) for record in chain if record.provenance.get("nstm")})
    if len(found) > 1:
        notes.append(f"made by different versions of nstm: {', '.join(found)}")
    sources = {_hashes(record): record.place for record in chain if _hashes(record)}
    if len(sources) > 1:
        notes.append(f"not made from the same source files: {', '.join(sources.values())}; run the workflow again")
    return notes


def _reasons(reasons: Any) -> str:
    entries = reasons if isinstance(reasons, list) else []
    return "; ".join(str(_mapping(entry).get("message")) for entry in entries) or "no reason given"


def _hashes(record: Record) -> tuple[str, ...]:
    files = record.converted.get("files")
    return tuple(str(file["sha256"]) for file in files if _is_file(file)) if isinstance(files, list) else ()


def _optics(converted: Mapping[str, Any], source: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Value and, where known, origin of every number of the optics."""
    origins = _mapping(source.get("optics"))
    values = {name: value for name, value in _mapping(converted.get("optics")).items() if value is not None}
    found = {
        name: {"value": value, "origin": _mapping(origins.get(name)).get("origin")} for name, value in values.items()
    }
    if "pixel_um" in found:
        found["pixel_um"]["origin"] = source.get("pixel_origin")
    return found


def _differences(given: Mapping[str, Any], model: type[BaseModel], prefix: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in given.items():
        field = model.model_fields.get(key)
        inner = field.annotation if field else None
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(value, Mapping):
            found |= _differences(value, inner, f"{prefix}{key}.")
        elif field is None or field.is_required() or _default(field) != value:
            found[f"{prefix}{key}"] = value
    return found


def _default(field: FieldInfo) -> Any:
    default = field.get_default(call_default_factory=True)
    return plain(default.model_dump(mode="json") if isinstance(default, BaseModel) else default)


def _every(description: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """A description, or those of all samples in it."""
    yield from description.get("samples", [description])


def _state(file: Mapping[str, Any], hashes: bool) -> str:
    path = Path(file["path"])
    try:
        size = path.stat().st_size
        if size != file["bytes"]:
            return f"other size: {size} bytes, {file['bytes']} were read"
        if hashes:
            with path.open("rb") as opened:
                if hashlib.file_digest(opened, "sha256").hexdigest() != file["sha256"]:
                    return "other content: the SHA-256 differs"
    except FileNotFoundError:
        return "absent"
    except (OSError, ValueError) as error:
        return f"cannot be read ({error})"
    return "unchanged"


def _is_file(entry: Any) -> bool:
    kinds = {"path": str, "bytes": int, "sha256": str}
    return isinstance(entry, Mapping) and all(isinstance(entry.get(key), kind) for key, kind in kinds.items())


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, Mapping) else {}
