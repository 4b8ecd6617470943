"""Figure 2 of the paper: time of an iteration by number of workers, measured, simulated and modelled."""

from __future__ import annotations

import json
import platform
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from hfnumba.errors import CheckpointError
from hfnumba.figures import style
from hfnumba.figures.experiment import Schedule
from hfnumba.figures.material import material
from hfnumba.figures.options import FigureOptions, FigureStopped
from hfnumba.figures.two_picture import draw
from hfnumba.figures.two_results import PARTITIONS, TIMIT_ROWS, Found, Measurements, Results, counts
from hfnumba.figures.two_table import write_tables
from hfnumba.figures.two_targets import write_targets
from hfnumba.processors import available_processors
from hfnumba.progress import Reporter

if TYPE_CHECKING:
    from hfnumba.bench.model import Workload
    from hfnumba.bench.round_costs import RoundCost
    from hfnumba.network import Network
    from hfnumba.store import Split, Store

HIDDEN = (512, 512, 512)
FULL = Measurements(32_768, (512, 2048, 8192), (1, 2), (4, 8, 16, 32, 64, 128), (32, 64, 128), (1, 2, 4, 8), 15)
QUICK = Measurements(4_096, (512, 1024), (1, 2), (16,), (32,), (1, 4), 5)


class Pieces:
    """Measurements stored in one file each, which are not repeated with the same settings.

    Parameters
    ----------
    folder : Path
    total : int
        Number of measurements.
    reporter : Reporter
        Receiver of messages and progress.
    limit_s : float or None
        Time after which no measurement begins.
    """

    def __init__(self, folder: Path, total: int, reporter: Reporter, limit_s: float | None) -> None:
        self._folder, self._reporter = folder, reporter
        self._schedule = Schedule(total, time.monotonic(), "measurement")
        self._end = None if limit_s is None else time.monotonic() + limit_s

    def get(self, name: str, settings: Found, measure: Callable[[], Any]) -> Any:
        """Return the result of ``measure``, or the stored one with the same settings.

        Raises
        ------
        FigureStopped
            If it has to be measured and the time limit is reached.
        CheckpointError
            If the file is not a result, or cannot be written.
        """
        path, key = self._folder / f"{name}.json", json.loads(json.dumps(settings))
        if path.exists():
            try:
                stored = json.loads(path.read_bytes())
                if stored["settings"] == key:
                    self._schedule.skip()
                    return stored["found"]
            except (ValueError, KeyError, TypeError) as error:
                raise CheckpointError(f"{path} is not a measurement of this figure; delete it") from error
        if self._end is not None and time.monotonic() > self._end:
            raise FigureStopped(f"the time limit is reached before {name!r} is measured")
        self._reporter.note(f"{self._schedule.next()}: {name}")
        ended = self._reporter.progress("measuring", "measurements")
        found = json.loads(json.dumps(measure()))
        ended(1, 1)
        self._folder.mkdir(parents=True, exist_ok=True)
        style.write(path, (json.dumps({"settings": key, "found": found}, indent=1) + "\n").encode())
        return found


def make(options: FigureOptions, reporter: Reporter, limit_s: float | None = None) -> list[Path]:
    """Measure, draw, and return the files written.

    The network is that of the paper, 360-512-512-512-1973, with the features and classes of the store. Without a store,
    synthetic data of TIMIT's shape are built. The figure starts its own workers; ``options.cluster`` is not used. With
    ``options.results`` there is a second picture, see :func:`hfnumba.figures.two_targets.write_targets`.

    Parameters
    ----------
    options : FigureOptions
    reporter : Reporter
        Receiver of messages and progress.
    limit_s : float, optional
        Time limit after which no measurement begins; results are stored, and the same call continues.

    Raises
    ------
    HfnumbaError
        Errors of building a store and of rounds; :class:`FigureStopped` at the time limit.
    """
    plan = QUICK if options.quick else FULL
    if options.cluster != "none":
        reporter.note("figure 2 starts its own workers; --cluster has no effect")
    store = _store(options, plan, reporter)
    pieces = Pieces(options.out / "runs" / "two", plan.n_measurements, reporter, limit_s)
    results = measured(plan, store, pieces)
    paths = [*draw(options.out, results), *write_tables(options.out, results)]
    if options.results:
        paths += write_targets(options.out, results.constants, options.results, partial(_round_cost, pieces))
    return paths


def _store(options: FigureOptions, plan: Measurements, reporter: Reporter) -> Store:
    from hfnumba.ingest import build  # noqa: PLC0415 - slow to import

    if options.store is not None:
        return material(options, reporter, plan.rows)
    path = options.out / "data" / f"synthetic-speech-{plan.rows}.zarr"
    command = f"hfnumba data build synthetic-speech --rows {plan.rows} --out {path}"
    reporter.note(f"synthetic data of TIMIT's shape: `{command}`")
    path.parent.mkdir(parents=True, exist_ok=True)
    return build("synthetic-speech", None, path, n_partitions=PARTITIONS, rows=plan.rows, reporter=reporter)


def measured(plan: Measurements, store: Store, pieces: Pieces) -> Results:
    """Make the measurements, or read the stored ones."""
    from hfnumba.bench import emulation  # noqa: PLC0415 - slow to import
    from hfnumba.bench.model import Constants  # noqa: PLC0415
    from hfnumba.bench.remote import remote_workers  # noqa: PLC0415
    from hfnumba.network import Network  # noqa: PLC0415

    split = store["train"]
    network = Network((split.n_features, *HIDDEN, split.n_outputs))
    base = {"sizes": network.sizes, "digest": store.digest, "machine": _machine()}
    real = {}
    for p in plan.workers:
        for s in plan.curvature_rows:

            def run(p: int = p, s: int = s) -> Found:
                with remote_workers(p, p) as client:
                    return emulation.run_iterations(network, split, client, s)

            real[p, split.n_rows, s] = pieces.get(f"iteration-{p}-workers-{s}-rows", base | {"rows": s}, run)
    own = counts(real[plan.workers[0], split.n_rows, plan.curvature_rows[0]])
    found = _constants(plan, split, network, pieces, base, points=own[2])
    constants = Constants.of(found["rates"] | found["rounds"] | {"client_s": 0.0, "scheduler_share": 0.0})
    results = Results(plan, split.n_rows, network.sizes, constants, real, {}, _machine(), store.manifest.header.title)
    wanted = [(p, split.n_rows) for p in plan.waiting] + [(p, TIMIT_ROWS) for p in plan.waiting_timit]
    s = plan.curvature_rows[-1] if len(plan.curvature_rows) < 3 else plan.curvature_rows[1]
    waited = {}
    for p, n in wanted:
        work = results.workload(n, s, p)

        def wait(p: int = p, work: Workload = work) -> Found:
            with remote_workers(p, available_processors()) as client:
                return emulation.emulate(network, client, constants, work)

        settings = base | {"work": asdict(work), "constants": constants.as_dict()}
        waited[p, n, s] = pieces.get(f"waiting-{p}-workers-{n}-rows", settings, wait)
    client_s = median(found["seconds"]["client"] for (p, _, _), found in real.items() if p == plan.workers[0])
    many, most = max(waited.items())
    share = most["scheduler_processor_s"] / most["elapsed_s"] / many[0]
    return replace(results, waited=waited, constants=replace(constants, client_s=client_s, scheduler_share=share))


def _constants(plan: Measurements, split: Split, network: Any, pieces: Pieces, base: Found, *, points: int) -> Found:
    from hfnumba.bench import scaling  # noqa: PLC0415
    from hfnumba.bench.remote import remote_workers  # noqa: PLC0415

    settings = base | {"repeats": plan.repeats}
    rates = pieces.get(
        "kernels",
        settings | {"points": points},
        lambda: {
            name: asdict(rate)
            for name, rate in scaling.measure_rates(network, split, points=points, repeats=plan.repeats).items()
        },
    )
    rounds, chain = [], []
    for p in plan.fitted:

        def empty(p: int = p, fan_in: int = scaling.STAR) -> list[dict[str, float]]:
            with remote_workers(p, min(p, available_processors())) as client:
                return scaling.measure_rounds(client, p, network.n_params, plan.repeats, fan_in)

        rounds += pieces.get(f"rounds-{p}-workers", settings, empty)
        if p > 1:
            chain += pieces.get(f"chain-{p}-workers", settings, partial(empty, fan_in=1))
    adding = pieces.get("adding", settings, lambda: scaling.measure_adding(network.n_params, plan.repeats))
    relay = {"relay_s": scaling.relay_seconds(rounds, chain)}
    return {"rates": rates, "rounds": scaling.fit_rounds(rounds, adding) | relay}


def _round_cost(pieces: Pieces, method: str, network: Network) -> RoundCost:
    from hfnumba.bench.round_costs import RoundCost, measure_round  # noqa: PLC0415

    settings = {"network": repr(network), "machine": _machine()}
    name = f"round-of-{method}-{'-'.join(map(str, network.sizes))}"
    return RoundCost(**pieces.get(name, settings, lambda: asdict(measure_round(method, network))))


def _machine() -> str:
    return f"{available_processors()} x {platform.machine()}"
