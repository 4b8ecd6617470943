"""Real processes: signals, exit statuses, kills. A run that stopped continues with the same bits."""

import os
import re
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest

from hfnumba.checkpoint import iterations
from tests.limits import LIMIT_S, until
from tests.mpi.ranks import BASE, LOOK_S, straight, theta

HF = [sys.executable, "-c", "from hfnumba.cli import main; main(prog_name='hfnumba')"]
KFAC = ["--method", "kfac", "--batch-rows", "8"]
"""After BASE: 22 steps in an epoch, between which a run may stop."""


def start(store, run, *more):
    """A command in a process group of its own, like a foreground job of a terminal."""
    words = [*HF, "train", str(store), *BASE, "--run", str(run), *map(str, more)]
    return subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)


def wait_for_iteration(process, run, n):
    path = run / "ledger.jsonl"

    def running():
        assert process.poll() is None, process.stderr.read()
        return True

    until(lambda: path.exists() and path.read_bytes().count(b"\n") > n, running)


def finish(process):
    try:
        return process.communicate(timeout=LIMIT_S)[1]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        raise


def all_gone(pgid):
    """Wait until a process group is empty; zombies do not count."""

    def empty():
        table = subprocess.run(["ps", "-A", "-o", "pgid=,stat="], capture_output=True, text=True, check=True).stdout
        rows = [line.split() for line in table.splitlines()]
        return not any(row[0] == str(pgid) and not row[1].startswith("Z") for row in rows)

    return until(empty, every_s=LOOK_S)


@pytest.mark.parametrize(
    ("cluster", "number", "whole_group", "more"),
    [
        ("local:2", signal.SIGINT, True, []),
        ("none", signal.SIGTERM, False, []),
        pytest.param("local:2", signal.SIGHUP, True, [], marks=pytest.mark.slow),
        pytest.param("local:3", signal.SIGINT, True, KFAC, marks=pytest.mark.slow),
    ],
    ids=["local-SIGINT", "none-SIGTERM", "local-SIGHUP", "kfac-SIGINT"],
)
@pytest.mark.usefixtures("no_nohup")
def test_a_signal_stops_at_a_checkpoint_and_resuming_gives_the_same_bits(
    toy_store, tmp_path, cluster, number, whole_group, more
):
    process = start(toy_store, tmp_path / "r", "--max-iterations", 100_000, "--cluster", cluster, *more)
    wait_for_iteration(process, tmp_path / "r", 1)
    (os.killpg if whole_group else os.kill)(process.pid, number)
    err = finish(process)
    assert process.returncode == 75, err
    assert "stopping after this iteration" in err and "--resume" in err
    # No worker died from the signal, and no message of Dask's shutdown is printed.
    for noise in ("Traceback", "is gone", "lost", "CommClosed", "distributed."):
        assert noise not in err
    assert all_gone(process.pid)
    done = iterations(tmp_path / "r" / "checkpoints")[-1]
    assert done >= 1
    n = done + 2
    words = ["--max-iterations", n, "--resume", "--cluster", "none", "--threads", 1]
    again = start(toy_store, tmp_path / "r", *more, *words)
    assert f"continuing after iteration {done}\n" in finish(again)
    assert again.returncode == 0
    assert theta(tmp_path / "r") == straight(toy_store, n, *more)


def test_a_signal_before_the_run_begins_waits_for_it(toy_store, tmp_path):
    process = start(toy_store, tmp_path / "r")
    while signal.SIGTERM not in blocked(process):
        assert process.poll() is None, process.stderr.read()
    process.terminate()
    err = finish(process)
    assert process.returncode == 75, err
    assert "Stopped; nothing was written yet, so start again" in err
    assert not (tmp_path / "r").exists()


def blocked(process):
    """Pending signals; none while Python itself starts."""
    lines = Path(f"/proc/{process.pid}/status").read_text().splitlines()
    mask = int(next(line for line in lines if line.startswith("SigBlk:")).split()[1], 16)
    return {number for number in signal.Signals if mask >> (number - 1) & 1}


def computed_s(process):
    times = psutil.Process(process.pid).cpu_times()
    return times.user + times.system


def test_a_second_ctrl_c_stops_at_once(toy_store, tmp_path):
    # 180 steps of 9 million parameters, of which the first takes longer than what surrounds an iteration.
    process = start(toy_store, tmp_path / "r", "--method", "sgd", "--batch-rows", 1, "--hidden", "3000,3000")
    wait_for_iteration(process, tmp_path / "r", 0)
    begun = computed_s(process)
    until(lambda: computed_s(process) > begun + 0.3)
    os.killpg(process.pid, signal.SIGINT)
    err = next(line for line in process.stderr if "stopping after this iteration" in line)
    os.killpg(process.pid, signal.SIGINT)
    err += finish(process)
    assert process.returncode == 130
    assert "to continue after iteration 0, give the same command with --run" in err
    assert "Traceback" not in err


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("no_nohup")
def test_a_signal_ends_other_commands_and_leaves_nothing(toy_store, tmp_path, number):
    train = start(toy_store, tmp_path / "r", "--max-iterations", 1)
    assert "Finished" in finish(train)
    # Enough rows for minutes.
    np.lib.format.open_memmap(tmp_path / "x.npy", "w+", np.float32, (50_000_000, 8))
    out = tmp_path / "out"
    out.mkdir()
    words = [*HF, "predict", str(tmp_path / "r"), str(tmp_path / "x.npy"), "-o", str(out / "p.csv"), "--threads", "1"]
    process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
    until(lambda: list(out.iterdir()), lambda: process.poll() is None)
    process.send_signal(number)
    err = finish(process)
    assert process.returncode == 130 and err.endswith("error: interrupted\n"), err
    assert not list(out.iterdir())


@pytest.mark.slow
def test_a_good_run_on_a_cluster_is_quiet(toy_store, tmp_path):
    process = start(toy_store, tmp_path / "r", "--max-iterations", 1, "--cluster", "local:2")
    err = finish(process)
    assert process.returncode == 0, err
    assert "running on local cluster, 2 workers × 1 thread" in err
    for noise in ("Traceback", "Warning", "WARNING", "CommClosed", "distributed."):
        assert noise not in err
    assert all_gone(process.pid)


@pytest.mark.slow
def test_a_worker_that_is_silent_for_the_time_given_is_replaced(toy_store, tmp_path):
    settings = ["--max-iterations", 40, "--cluster", "local:2", "--worker-timeout-s", 4]
    process = start(toy_store, tmp_path / "r", *settings)
    wait_for_iteration(process, tmp_path / "r", 1)
    children = psutil.Process(process.pid).children(recursive=True)
    frozen = next(child for child in children if "spawn_main" in " ".join(child.cmdline()))
    frozen.suspend()
    assert process.poll() is None, "it ended before the worker was stopped, so nothing was tried"
    err = finish(process)
    assert process.returncode == 0, err
    # On a busy machine a starting worker may be silent for as long.
    silent_s = re.findall(r"is lost: silent for (\d+) s; it is restarted", err)
    assert silent_s, err
    assert all(int(s) < 60 for s in silent_s), "60 is what it would be without the flag"
    assert all_gone(process.pid)
    assert theta(tmp_path / "r") == straight(toy_store, 40)


def workers_of(process):
    """Processes of the workers; one that was killed a moment ago has no command any more."""
    found = []
    for child in psutil.Process(process.pid).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.append(child)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("n_workers", [1, 2, 3])
def test_kfac_has_the_bits_of_one_process_on_workers_that_are_killed(toy_store, tmp_path, n_workers):
    settings = ["--max-iterations", 40, *KFAC]
    process = start(toy_store, tmp_path / "r", *settings, "--cluster", f"local:{n_workers}")
    for n in (0, 4):
        wait_for_iteration(process, tmp_path / "r", n)
        workers_of(process)[-1].kill()
        assert process.poll() is None, "it ended before a worker was killed, so nothing was tried"
    err = finish(process)
    assert process.returncode == 0, err
    assert err.count("is lost") >= 1, err
    assert all_gone(process.pid)
    assert theta(tmp_path / "r") == straight(toy_store, 40, *KFAC)
