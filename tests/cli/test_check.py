"""`hfnumba check`: its checks, and that it fails on faults."""

import json

from click.testing import CliRunner

from hfnumba import preflight
from hfnumba.cli import main
from hfnumba.launch import address


def check(*arguments):
    return CliRunner().invoke(main, ["check", *map(str, arguments)])


def test_a_sound_machine_and_store(toy_store):
    result = check(toy_store)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert [line.split()[:2] for line in lines] == [
        ["ok", name] for name in ("versions", "kernels", "threads", "derivatives", "disk", "store")
    ]
    assert "1 inside each BLAS" in result.stdout


def test_json():
    (*_, one) = found = json.loads(check("--json").stdout)
    assert [check["ok"] for check in found] == [True] * 5 and one["name"] == "disk" and "GB free" in one["found"]


def test_a_cluster_gives_the_same_bits(toy_store):
    result = check(toy_store, "--cluster", "local:1")
    assert result.exit_code == 0
    assert "equal to those of this process, to the bit" in result.stdout


def test_what_is_wrong_is_named_and_fails(toy_store, monkeypatch):
    monkeypatch.setattr(address, "CONNECT_TIMEOUT_S", 1.0)
    result = check("/nowhere.zarr", "--cluster", "tcp://127.0.0.1:1")
    assert result.exit_code == 1
    assert "FAIL  store" in result.stdout and "there is no store at /nowhere.zarr" in result.stdout
    assert "FAIL  cluster" in result.stdout
    assert result.stderr == "error: failed checks: store, cluster\n"


def test_wrong_derivatives_are_found(monkeypatch):
    from hfnumba.engine.linearization import CurvatureOperator

    right = CurvatureOperator.matvec
    monkeypatch.setattr(CurvatureOperator, "matvec", lambda *arguments: 1.01 * right(*arguments))
    assert not preflight._checked("derivatives", preflight._derivatives).ok
