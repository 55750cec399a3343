import subprocess
import sys

from tests.experiments import ROOT

CODE = """
import os, sys
from nstm.pipeline.logging import rule_log
with rule_log(sys.argv[1], "fit", threads=3):
    print("printed")
    os.system("echo from a child")
    assert os.environ["OMP_NUM_THREADS"] == os.environ["NPROC"] == "3"
    exec(sys.argv[2])
"""


def run(tmp_path, code: str) -> tuple[subprocess.CompletedProcess[str], str]:
    log = tmp_path / "logs" / "rule.log"
    command = [sys.executable, "-c", CODE, str(log), code]
    done = subprocess.run(command, capture_output=True, text=True, env={"PYTHONPATH": str(ROOT)}, cwd=tmp_path)
    return done, log.read_text()


def test_output_goes_to_the_log(tmp_path) -> None:
    done, log = run(tmp_path, "")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert "printed" in log
    assert "from a child" in log


def test_an_error_is_one_line_on_the_terminal(tmp_path) -> None:
    done, log = run(tmp_path, "raise ValueError('no\\nlight')")
    assert done.returncode == 1
    assert done.stderr.startswith("fit failed: ValueError: no (all of it in ")
    assert done.stderr.count("\n") == 1
    assert "Traceback" in log


def test_a_users_mistake_needs_no_traceback(tmp_path) -> None:
    done, log = run(tmp_path, "from nstm.acquisition import DataError; raise DataError('give a pixel size')")
    assert done.stderr.startswith("fit failed: give a pixel size")
    assert "Traceback" not in log
