"""Command lines for several ranks are recognised before they are parsed."""

import pytest

from hfnumba.cli.ranks import launcher, refuse_many


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], None),
        (["train", "s", "--cluster", "mpi"], "mpi"),
        (["train", "s", "--cluster=slurm", "--run", "r"], "slurm"),
        (["train", "s", "--cluster", "mpi", "--cluster", "none"], None),
        (["train", "s", "--cluster"], None),
        (["train", "mpi", "--cluster", "local"], None),
        (["train", "s", "--run", "mpi"], None),
    ],
)
def test_launcher(words, expected):
    assert launcher(words) == expected


@pytest.mark.parametrize(("rank", "status", "printed"), [(0, 2, True), (1, 0, False)])
@pytest.mark.parametrize("command", ["train", "predict", "spectrum", "figure"])
def test_only_one_rank_prints_that_each_would_work_separately(monkeypatch, capsys, command, rank, status, printed):
    for name in ("OMPI_COMM_WORLD_RANK", "PMI_RANK", "MV2_COMM_WORLD_RANK"):
        monkeypatch.delenv(name, raising=False)
    refuse_many([command, "s"])
    monkeypatch.setenv("PMI_RANK", str(rank))
    monkeypatch.setenv("PMI_SIZE", "2")
    refuse_many(["evaluate", "r"])
    with pytest.raises(SystemExit) as caught:
        refuse_many([command, "s"])
    assert caught.value.code == status
    assert ("error: mpirun started 2 processes, each of which would " in capsys.readouterr().err) is printed
