"""How far a sample has come is read from what its jobs leave."""

import pytest

from nstm.pipeline.running import Job, progress_text, running_jobs

BAR = "\racquisition {at}:  {percent}%|###   | 90/200 [00:{took}<00:22,  4.90step/s, loss=0.01]"


@pytest.fixture
def folder(tmp_path):
    for name in ("logs", "fits", "benchmarks"):
        (tmp_path / name).mkdir()
    (tmp_path / "illumination.json").touch()
    (tmp_path / "fits" / "00000-00003.zarr").mkdir()
    (tmp_path / "benchmarks" / "reconstruct_00000-00003.tsv").write_text("s\th:m:s\n80.0\t0:01:20\n")
    for first, at, percent in [(0, 3, 100), (4, 6, 50), (8, 8, 25)]:
        name = f"reconstruct_{first:05d}-{first + 3:05d}.log"
        text = "computing on the CPU\n" + BAR.format(at=first, percent=3, took="01") * 200
        (tmp_path / "logs" / name).write_text(text + BAR.format(at=at, percent=percent, took="20"))
    return tmp_path


def test_running_jobs_are_those_whose_logs_are_fresh(folder):
    now = (folder / "logs" / "reconstruct_00004-00007.log").stat().st_mtime
    jobs = running_jobs(folder, [(0, 3)], now + 10)
    assert jobs == [Job(4, 7, 6, 0.5), Job(8, 11, 8, 0.25)]
    assert [job.done for job in jobs] == [2.5, 0.25]
    assert running_jobs(folder, [(0, 3)], now + 1000) == []


def test_what_is_left_follows_from_what_was_taken(folder):
    now = (folder / "logs" / "reconstruct_00004-00007.log").stat().st_mtime
    # 4 + 2.5 + 0.25 of 12 are done, 20 s each, on two jobs
    text = progress_text(folder, 12, now)
    assert text == "fits: 6.8 of 12 acquisitions, 2 job(s) running, about 52.5 s left at 20.0 s each"
    assert "no job has written" in progress_text(folder, 12, now + 1000)
    (folder / "benchmarks" / "reconstruct_00000-00003.tsv").write_text("torn")
    assert "left at 46.7 s each" in progress_text(folder, 12, now)  # 20 s for the whole, a half and a quarter


def test_before_and_after_the_fits(folder):
    assert "look at its file" in progress_text(folder, None)
    assert "waits for figures" in progress_text(folder, 4)
    (folder / "illumination.json").unlink()
    assert "illumination" in progress_text(folder, 4)
