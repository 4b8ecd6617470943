"""`hfnumba bench`: measurements, as ratios to other libraries and to the limits of this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from hfnumba.cli.tables import print_table
from hfnumba.errors import UsageError

if TYPE_CHECKING:
    from hfnumba.bench.kernels import Row


@click.group()
def bench() -> None:
    """Measure kernels and rounds against the limits of this machine and against other libraries."""


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per figure.")
@click.option(
    "--peers",
    default="jax,torch,curvlinops,backpack",
    show_default=True,
    help="Libraries to compare with, if installed.",
)
@click.option("--seconds", type=float, default=10.0, show_default=True, help="Time per network and number of rows.")
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Number of threads of hfnumba.  [default: one per processor]"
)
@click.option("--quick", is_flag=True, help="Measure only tanh and 4096 rows.")
def kernels(as_json: bool, peers: str, seconds: float, threads: int | None, quick: bool) -> None:
    """Loss, gradient, Hv and Gv in GFLOP/s, as a share of the best sgemm of this process, and against peers.

    A ratio (x jax) is the time of the peer divided by that of hfnumba; above 1, hfnumba is faster. Products of both
    reuse their primal pass.
    """
    from hfnumba.bench.kernels import cells, setting
    from hfnumba.bench.peers import PEERS, installed

    wanted = tuple(name for name in peers.split(",") if name)
    for name in wanted:
        if name not in PEERS:
            raise UsageError(f"unknown peer {name!r}; choose from {', '.join(PEERS)}")
    present = installed(wanted)
    for name in sorted(set(wanted) - set(present)):
        click.echo(f"{name} is not installed; it is left out", err=True)
    click.echo(setting(threads, present), err=True)
    for rows in cells(present, seconds, threads, quick):
        if as_json:
            for row in rows:
                click.echo(json.dumps(row.as_dict()))
            continue
        click.echo(f"{rows[0].title}:")
        print_table(
            ["", "GFLOP/s", "of sgemm", *(f"x {peer}" for peer in present)], [_cells(row, present) for row in rows]
        )
        click.echo()


@bench.command("round")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per figure.")
@click.option("--workers", default="1,2,4,8", show_default=True, help="Numbers of worker processes.")
@click.option("--repeats", type=click.IntRange(1), default=50, show_default=True, help="Number of rounds of each kind.")
def rounds(as_json: bool, workers: str, repeats: int) -> None:
    """Milliseconds of one round on this machine: hfnumba, plain Dask futures, and mpi4py if installed.

    For Dask's scheduler the time of its processor is shown.
    """
    from hfnumba.bench.rounds import PURPOSES, timings

    for network, purpose in () if as_json else PURPOSES.items():
        click.echo(f"{network}: {purpose}")
    for found in timings(_numbers(workers), repeats):
        if as_json:
            click.echo(json.dumps(found.as_dict()))
            continue
        scheduler = "" if found.scheduler_ms is None else f", scheduler {found.scheduler_ms:.2f} ms"
        where = f"{found.network:<21} {found.workers} workers  {found.way:<8}"
        click.echo(f"{where} {found.milliseconds:7.2f} ms{scheduler}")


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per number of workers.")
@click.option("--workers", default="8,32", show_default=True, help="Numbers of simulated workers.")
@click.option("--rows", type=click.IntRange(1024), default=131_072, show_default=True, help="Total number of rows.")
@click.option(
    "--curvature-rows",
    type=click.IntRange(1),
    default=4096,
    show_default=True,
    help="Number of rows in the curvature sample.",
)
@click.option(
    "--repeats", type=click.IntRange(1), default=10, show_default=True, help="Number of measurements of each constant."
)
@click.option("--fan-in", type=click.IntRange(1), help="Fan-in of the tree of relaying workers.  [default: no relays]")
def scaling(*, as_json: bool, workers: str, rows: int, curvature_rows: int, repeats: int, fan_in: int | None) -> None:
    """Time of an iteration by a model, against the real engine on many simulated workers, without shared memory.

    The constants are measured with 1, 2 and 4 workers. Simulated workers wait as long as the model predicts that they
    compute. With a ratio above 1 the model predicts too much time. The efficiency is that of the model; idle is
    the share of its time without computing.
    `hfnumba figure 2` measures more.
    """
    from hfnumba.bench.emulation import comparisons

    for found in comparisons(_numbers(workers), rows, curvature_rows, repeats, fan_in):
        if as_json:
            click.echo(json.dumps(found.as_dict()))
            continue
        times = f"model {found.modelled_s:.2f} s, run {found.waited_s:.2f} s, ratio {found.ratio:.2f}"
        shares = f"efficiency {found.efficiency:.0%}, idle {found.transport_share:.0%}"
        click.echo(f"{found.workers:>5} workers: {times}; {shares}")


def _numbers(workers: str) -> tuple[int, ...]:
    try:
        numbers = tuple(int(word) for word in workers.split(","))
    except ValueError:
        raise UsageError(f"expected --workers to be whole numbers such as 1,2,4, got {workers!r}") from None
    if min(numbers) < 1:
        raise UsageError(f"expected at least one worker process, got {min(numbers)}")
    return numbers


def _cells(row: Row, peers: Sequence[str]) -> list[str]:
    ratios = [f"{row.ratios[peer]:.2f}" if peer in row.ratios else "–" for peer in peers]
    return [row.evaluation, f"{row.gflops:.1f}", f"{row.of_peak:.2f}", *ratios]
