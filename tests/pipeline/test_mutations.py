"""Configs and sheets damaged at random: a message or a checked experiment, never a crash, never a long wait.

make soak tries 200 (NSTM_SOAK sets another number); make test 20.
"""

import copy
import os
import random
import signal

import pytest
import yaml

from nstm.acquisition import DataError
from nstm.pipeline.experiment import Experiment
from nstm.pipeline.single import read_config
from tests.experiments import SMALL_CONFIG

SHEET = (
    "sample\tpath\tsystem\tacquisitions\tcrop\ttruth\n"
    "one\ta.tif\tsim\t0:4\t0:64,0:64\t\n"
    "two\tfolder/*.tif\tno_size\t\t\tone\n"
)
ODD = (
    *(
        None,
        True,
        -1,
        0,
        1e308,
        float("nan"),
        float("inf"),
        "",
        " ",
        "nan",
        "../..",
        "/dev/zero",
        "/proc",
        "x" * 100_000,
    ),
    *(
        "{wildcards.x}",
        "$(touch pwned)",
        "<script>",
        "\u202e",
        "2026-11-28",
        [],
        {},
        [[]],
        {"a": {"b": []}},
        [None] * 1000,
    ),
    *(b"\x00", 10**400, "!!python/object/apply:os.system [touch pwned]", "kind.py", "**", "*" * 200, "[" * 50),
)
SECONDS = 20


def damaged_tree(tree, rng):
    """A copy in which a few keys or values are odd, gone or renamed."""
    tree = copy.deepcopy(tree)
    for _ in range(rng.randint(1, 4)):
        node = tree
        while isinstance(node, dict) and node:
            key = rng.choice(list(node))
            if not isinstance(node[key], dict) or rng.random() < 0.3:
                act = rng.randrange(4)
                value = node.pop(key) if act < 2 else node[key]
                if act == 1:
                    node[rng.choice([f"{key}s", 7, None, key.upper() if isinstance(key, str) else 0])] = value
                if act > 1:
                    node[key] = rng.choice(ODD)
                break
            node = node[key]
    return tree


def damaged_text(text, rng):
    """Bytes in which a few places are cut, doubled, or replaced."""
    content = bytearray(text.encode())
    for _ in range(rng.randint(1, 8)):
        a, b = sorted(rng.randrange(len(content) + 1) for _ in range(2))
        b = min(b, a + rng.choice([1, 1, 2, 40]))
        content[a:b] = rng.choice(
            [b"", bytes(content[a:b]) * 2, rng.randbytes(3), b"\t", b"\n", b": ", b"&a *a", b"{", b"'", b"\x00", b"\r"]
        )
    return bytes(content)


def out_of_time(number, frame):
    raise TimeoutError(f"more than {SECONDS} s")


def mutate(folder, seed):
    """Load one damaged experiment; the message where it is refused."""
    rng = random.Random(seed)
    config, sheet = folder / "config.yaml", folder / "samples.tsv"
    part = rng.randrange(3)
    if part == 0:
        config.write_text(yaml.dump(damaged_tree(yaml.safe_load(SMALL_CONFIG), rng), allow_unicode=True))
    else:
        config.write_bytes(damaged_text(SMALL_CONFIG, rng) if part == 1 else SMALL_CONFIG.encode())
    sheet.write_bytes(damaged_text(SHEET, rng) if part == 2 else SHEET.encode())
    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(SECONDS)
    try:
        experiment = Experiment.load(read_config(config), folder)
        for sample in experiment.samples:  # what the workflow asks before anything runs
            experiment.baselines(sample)
            experiment.fitted(sample, 4)
            experiment.stage_params(sample, "reconstruct", 0, 3)
            experiment.samples[sample].files()
    except DataError as error:
        return str(error)
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
    return None


def check(folder, seed):
    message = mutate(folder, seed)
    assert message is None or (message.strip() and len(message) < 20_000), seed
    assert not (folder / "pwned").exists()


@pytest.mark.parametrize("seed", range(20))
def test_a_damaged_experiment_is_refused_with_a_message(tmp_path, monkeypatch, seed) -> None:
    monkeypatch.chdir(tmp_path)
    check(tmp_path, seed)


@pytest.mark.soak
def test_many_damaged_experiments(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    for seed in range(1000, 1000 + int(os.environ.get("NSTM_SOAK", 200))):
        try:
            check(tmp_path, seed)
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error
