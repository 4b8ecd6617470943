"""`hfnumba bench`: measurements, as ratios to other libraries and to the limits of this machine."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from hfnumba.cli.common import RESUMABLE, AnyPath, Failure
from hfnumba.cli.tables import print_table
from hfnumba.errors import UsageError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from hfnumba.bench.kernels import Row
    from hfnumba.bench.quality.problems import Problem
    from hfnumba.bench.quality.records import Result
    from hfnumba.bench.quality.summary import TargetSummary

_QUIET = 0.05
"""Largest share of the processors that other processes may take during measurements."""


@click.group()
def bench() -> None:
    """Measure kernels, rounds and training against the limits of this machine and against other libraries."""


@bench.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON line per figure.")
@click.option(
    "--peers",
    default="jax,torch,curvlinops,backpack",
    show_default=True,
    help="Libraries to compare with, where they are installed.",
)
@click.option(
    "--seconds",
    type=float,
    default=10.0,
    show_default=True,
    help="Time in seconds for each network and number of rows.",
)
@click.option(
    "--threads", type=click.IntRange(1, 1024), help="Number of threads of hfnumba.  [default: one per processor]"
)
@click.option("--quick", is_flag=True, help="Measure only tanh and 4096 rows.")
def kernels(as_json: bool, peers: str, seconds: float, threads: int | None, quick: bool) -> None:
    """Measure loss, gradient, curvature products and Kronecker factors in GFLOP/s.

    They are shown as a share of the best sgemm of this process, and against other libraries. Hv is a product with the
    Hessian, Gv with the Gauss–Newton matrix; factors are those of kfac, counted as half matrix products.

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
    """Measure the milliseconds of one round on this machine.

    A round sends a vector to all workers and returns one sum: by hfnumba, by plain Dask futures, and by mpi4py if
    installed. For Dask's scheduler its processor time is shown.
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
    """Compare modelled with measured times of an iteration.

    The real engine runs on many simulated workers, without shared memory.
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


@bench.command()
@click.argument("problem")
@click.option("--methods", help="Methods to compare.  [default: kfac,hf-bicgstab,gn-cg,lbfgs and installed peers]")
@click.option("--seeds", type=click.IntRange(1, 100), default=3, show_default=True, help="Number of seeds.")
@click.option("--minutes", type=click.FloatRange(0, min_open=True), help="Time of a run at most.  [default: see above]")
@click.option("--batch-rows", type=click.IntRange(1), help="Rows of a minibatch, in place of those of the grid.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="Learning rate, likewise.")
@click.option("--l2", type=float, default=0.0, show_default=True, help="Factor of a penalty; targets are without it.")
@click.option("--store", type=AnyPath, help="Store of the rows, built if it is not there.  [default: NAME.zarr]")
@click.option("--json", "json_file", type=AnyPath, help="File of results.  [default: quality-PROBLEM.jsonl]")
@click.option("--picture", type=AnyPath, help="Picture of quality against rounds and seconds: .png, .svg or .pdf.")
@click.option("--quick", is_flag=True, help="Take few rows, one seed, a few seconds a run, and no grid.")
def quality(
    *,
    problem: str,
    methods: str | None,
    seeds: int,
    minutes: float | None,
    batch_rows: int | None,
    learning_rate: float | None,
    l2: float,
    store: Path | None,
    json_file: Path | None,
    picture: Path | None,
    quick: bool,
) -> None:
    """Measure the cost of training to stated qualities.

    Rounds, passes over the data, GFLOP and seconds are measured, for hfnumba and other libraries in turn.

    \b
    digits               8 x 8 digits, 64-100-50-10, 1 minute a run
    mnist                784-400-150-10, 5 minutes
    borehole             a function of 8 inputs, 8-64-64-1, 5 minutes
    autoencoder          of MNIST, 784-400-100-20-…-784, tanh, 5 minutes
    deep-autoencoder     784-1000-500-250-30-…-784, tanh, 14 minutes
    sigmoid-autoencoder  Martens', the same widths, sigmoid, 14 minutes
    festvox-ru           speech, 360-512-512-512-51, 14 minutes
    synthetic-speech     rows of TIMIT's shape, 360-512-512-512-1973, 14 minutes

    A ratio is the cost of the best first-order method divided by that of the method; above 1, the method needs less.
    First-order methods try 256, 512 and 1024 rows with three learning rates each, on one seed. Each point of a run is
    written to the file of results at once; after Ctrl-C (exit status 75) the same command continues.
    """  # noqa: D301 - Click wants the character itself
    from hfnumba.bench.quality.command import Options, compare
    from hfnumba.cli.progress import stderr_reporter

    if picture is not None:
        from hfnumba.figures.style import new_figure, require_suffix

        require_suffix(picture)
        new_figure(1, 1)  # Better without matplotlib now than after the runs.
    options = Options(
        problem,
        tuple(name for name in methods.split(",") if name) if methods is not None else None,
        seeds,
        minutes,
        batch_rows,
        learning_rate,
        l2,
        store,
        json_file,
        quick,
    )
    try:
        with stderr_reporter() as reporter:
            what, results, summaries = compare(options, reporter)
    except KeyboardInterrupt:
        raise Failure("interrupted; the same command continues from there", RESUMABLE) from None
    _print_quality(what, results, summaries)
    if picture is not None:
        from hfnumba.figures.quality import draw

        draw(what, results, summaries, picture)
        click.echo(picture)


def _print_quality(problem: Problem, results: Sequence[Result], summaries: Sequence[TargetSummary]) -> None:
    from hfnumba.cli.tables import print_table
    from hfnumba.figures.quality import SHORT_HEADER, peers_text, short_table, title

    for summary in summaries:
        click.echo(title(problem, summary))
        print_table(SHORT_HEADER, short_table(problem, summary))
        click.echo(f"{peers_text(summary)}\n")
    others = max(result.others for result in results)
    if others > _QUIET:
        click.echo(
            f"Other processes took up to {others:.0%} of the processors during a run: seconds and clock ratios are not "
            "reliable; repeat on a quiet machine.",
            err=True,
        )


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
