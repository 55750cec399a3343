import os
import subprocess
import sys

import pytest

from nstm.io.store import replace_whole


def _names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_a_file_replaces_a_file(tmp_path):
    for text in ("one", "two"):
        with replace_whole(tmp_path / "sub" / "out.json") as temporary:
            assert temporary.name == f".out.json.partial-{os.getpid()}"
            temporary.write_text(text)
    assert (tmp_path / "sub" / "out.json").read_text() == "two"
    assert _names(tmp_path / "sub") == ["out.json"]


def test_a_folder_replaces_a_folder_and_nothing_of_the_old_stays(tmp_path):
    for name in ("old", "new"):
        with replace_whole(tmp_path / "store") as temporary:
            temporary.mkdir()
            (temporary / name).write_text("")
    assert _names(tmp_path) == ["store"]
    assert _names(tmp_path / "store") == ["new"]


@pytest.mark.parametrize("before", [None, "file", "folder"])
@pytest.mark.parametrize("error", [ValueError, OSError, KeyboardInterrupt])
def test_after_an_error_all_is_as_before(before, error, tmp_path):
    target = tmp_path / "out"
    if before == "file":
        target.write_text("before")
    elif before == "folder":
        target.mkdir()
        (target / "before").write_text("")

    def fails():
        with replace_whole(target) as temporary:
            temporary.mkdir()
            (temporary / "half").write_text("")
            raise error

    with pytest.raises(error):
        fails()
    assert _names(tmp_path) == ([] if before is None else ["out"])
    if before == "file":
        assert target.read_text() == "before"
    elif before == "folder":
        assert _names(target) == ["before"]


@pytest.mark.parametrize(("old", "new"), [("file", "folder"), ("folder", "file")])
def test_a_folder_and_a_file_replace_each_other(old, new, tmp_path):
    for kind in (old, new):
        with replace_whole(tmp_path / "out") as temporary:
            temporary.mkdir() if kind == "folder" else temporary.write_text("")
    assert (tmp_path / "out").is_dir() == (new == "folder")
    assert _names(tmp_path) == ["out"]


def test_nothing_written_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="nothing was written"), replace_whole(tmp_path / "out"):
        pass


def test_left_overs_of_dead_runs_are_cleared_and_of_living_ones_kept(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    pid = int(dead.stdout)
    (tmp_path / f".out.partial-{pid}").mkdir()
    (tmp_path / f".out.partial-{os.getppid()}").mkdir()
    (tmp_path / f".other.partial-{pid}").mkdir()
    (tmp_path / ".out.partial-x").mkdir()
    with replace_whole(tmp_path / "out") as temporary:
        temporary.write_text("")
    kept = [f".other.partial-{pid}", f".out.partial-{os.getppid()}", ".out.partial-x", "out"]
    assert _names(tmp_path) == sorted(kept)


def test_a_folder_moved_away_by_a_killed_run_comes_back(tmp_path):
    dead = subprocess.run([sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, text=True)
    (tmp_path / f".out.old-{int(dead.stdout)}").mkdir()
    with pytest.raises(ValueError, match="stop"), replace_whole(tmp_path / "out"):
        raise ValueError("stop")
    assert _names(tmp_path) == ["out"]


@pytest.mark.parametrize("name", ['it\'s "x"', "a b", "µ细", "new\nline", "$(x);*"])
def test_hostile_names(name, tmp_path):
    for text in ("one", "two"):
        with replace_whole(tmp_path / name) as temporary:
            temporary.write_text(text)
    assert _names(tmp_path) == [name]
