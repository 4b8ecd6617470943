"""Tables of figure 2: constants, comparison of the model with runs, and extrapolation."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from statistics import median
from typing import Any

from hfnumba.bench.model import (
    KINDS,
    PARTS,
    Rate,
    best_fan_in,
    best_workers,
    exchanges,
    iteration_s,
    transport_share,
)
from hfnumba.figures import style
from hfnumba.figures.summary import markdown
from hfnumba.figures.two_results import TIMIT_ROWS, Results

WORKERS = tuple(2**k for k in range(11))
"""Numbers of workers for which the model is shown."""
NODE = 36
"""Number of processors of a large node."""
MANY = (32, 128, 1024, 8192)
"""Numbers of workers for which the limits are computed."""
NAMES = {"iteration": "iteration", "gradient": "gradient", "krylov": "Krylov", "line_search": "line search"}


def modelled(results: Results, rows: int, curvature_rows: int, p: int, tree: bool = False) -> dict[str, float]:
    """Modelled seconds of the parts for p workers, as a star or with the best tree of relays."""
    work = results.workload(rows, curvature_rows, p)
    fan_in = best_fan_in(results.constants, work, p) if tree else None
    return iteration_s(results.constants, work, p, fan_in)


def total(results: Results, seconds: dict[str, float]) -> dict[str, float]:
    """Add the client's own work to the seconds of simulated parts, in which it does none."""
    everything = sum(seconds[part] for part in PARTS) + results.constants.client_s
    return {**seconds, "iteration": everything}


def checks(results: Results) -> list[dict[str, Any]]:
    """Compare each run with its model."""
    found = [("computing", key, run["seconds"]) for key, run in results.measured.items()]
    found += [("waiting", key, total(results, run["seconds"])) for key, run in results.waited.items()]
    rows = []
    for kernel, (p, n, s), seconds in found:
        model = modelled(results, n, s, p)
        one: dict[str, Any] = {"kernel": kernel, "workers": p, "rows": n, "curvature_rows": s}
        for part in NAMES:
            one[part] = {"run_s": seconds[part], "model_s": model[part], "error": model[part] / seconds[part] - 1}
        rows.append(one)
    return rows


def write_tables(out: Path, results: Results) -> list[Path]:
    """Write ``two.md`` for readers and ``two.json`` with every number."""
    numbers = {
        "machine": results.machine,
        "sizes": results.sizes,
        "data": results.data,
        "constants": results.constants.as_dict(),
        "checks": checks(results),
        "model": [
            {"rows": n, "curvature_rows": s, "workers": p, "star": modelled(results, n, s, p)}
            | {"tree": modelled(results, n, s, p, tree=True)}
            for n in (results.rows, TIMIT_ROWS)
            for s in results.plan.curvature_rows
            for p in WORKERS
        ],
        "plan": asdict(results.plan),
    }
    text = "\n\n".join((_constants(results), _check(results), _model(results), _limits(results))) + "\n"
    return [
        style.write(out / "two.md", text.encode()),
        style.write(out / "two.json", (json.dumps(numbers, indent=1) + "\n").encode()),
    ]


def _constants(results: Results) -> str:
    c = results.constants
    rates = [
        [
            kind.replace("_", " "),
            *(f"{1e6 * rate.row_s:.1f}", f"{1e3 * rate.partition_s:.2f}"),
            f"{1e3 * rate.worker_s:.2f}",
        ]
        for kind in KINDS
        if (rate := getattr(c, kind))
    ]
    link = 8e-9 / max(c.send_s_per_byte, 1e-15), 8e-9 / max(c.receive_s_per_byte, 1e-15)
    rest = [
        ["a round", "L", f"{1e3 * c.round_s:.2f} ms"],
        ["a level of relays", "L_r", f"{1e3 * c.relay_s:.2f} ms"],
        ["a worker's message, there and back", "m", f"{1e3 * c.message_s:.2f} ms"],
        ["a byte out to a worker", "s", f"{1e9 * c.send_s_per_byte:.2f} ns (as a link of {link[0]:.0f} Gbit/s)"],
        ["a byte back from a worker", "r", f"{1e9 * c.receive_s_per_byte:.2f} ns (as a link of {link[1]:.0f} Gbit/s)"],
        ["adding a byte of an answer", "a", f"{1e9 * c.add_s_per_byte:.3f} ns"],
        ["work of the client, per iteration", "c", f"{c.client_s:.2f} s"],
        ["the scheduler, for each worker", "", f"{100 * c.scheduler_share:.2f} % of a processor"],
    ]
    kernels = markdown(
        ["kernel, one thread", "µs per row and point", "ms per partition", "ms per worker and point"], rates
    )
    return f"{kernels}\n\n{markdown(['transport', 'symbol', 'measured'], rest)}"


def _check(results: Results) -> str:
    header = [
        "kernel",
        "workers",
        "rows",
        "curvature rows",
        *(f"{name}, s (model)" for name in NAMES.values()),
        "error",
        "processor of the client, s",
    ]
    lines = []
    for row in checks(results):
        parts = [f"{row[part]['run_s']:.2f} ({row[part]['model_s']:.2f})" for part in NAMES]
        names = [row["kernel"], str(row["workers"]), f"{row['rows']:,}", f"{row['curvature_rows']:,}"]
        key = row["workers"], row["rows"], row["curvature_rows"]
        busy = f"{results.waited[key]['client_processor_s']:.1f}" if row["kernel"] == "waiting" else ""
        lines.append([*names, *parts, f"{row['iteration']['error']:+.0%}", busy])
    errors = [abs(row["iteration"]["error"]) for row in checks(results)]
    summary = f"Error of the model, whole iterations: median {median(errors):.0%}, largest {max(errors):.0%}."
    return f"{markdown(header, lines)}\n\n{summary} {_efficiency(results)}"


def _efficiency(results: Results) -> str:
    """Efficiency of the worker processes that compute."""
    one, *more = results.plan.workers
    lines = []
    for p in more:
        shares = []
        for s in results.plan.curvature_rows:
            alone, together = (results.measured[k, results.rows, s]["seconds"]["iteration"] for k in (one, p))
            shares.append(f"{alone * one / together / p:.0%}")
        sizes = ", ".join(f"{s:,}" for s in results.plan.curvature_rows)
        lines.append(f"Efficiency of {p} processes, with {sizes} curvature rows: {', '.join(shares)}.")
    return " ".join(lines)


def _model(results: Results) -> str:
    """Seconds and efficiency of the star and of the best tree, for the rows of TIMIT."""
    header = ["workers", *(f"{s:,} curvature rows: s, efficiency (best tree)" for s in results.plan.curvature_rows)]
    lines = []
    for p in WORKERS:
        cells = []
        for s in results.plan.curvature_rows:
            one = modelled(results, TIMIT_ROWS, s, 1)["iteration"]
            star, tree = (modelled(results, TIMIT_ROWS, s, p, t)["iteration"] for t in (False, True))
            cells.append(f"{star:,.1f}, {one / star / p:.0%} ({tree:,.1f}, {one / tree / p:.0%})")
        lines.append([f"{p:,}", *cells])
    return f"Modelled, {TIMIT_ROWS:,} rows.\n\n{markdown(header, lines)}"


def _nodes(results: Results, s: int) -> str:
    """Efficiency if each worker computes like a node of many processors, with unchanged communication."""
    c, p = results.constants, MANY[0]
    kernels = {kind: getattr(c, kind) for kind in KINDS}
    rates = {k: Rate(r.row_s / NODE, r.partition_s / NODE, r.worker_s / NODE) for k, r in kernels.items()}
    node, shares = replace(c, **rates), []  # type: ignore[arg-type]  # mypy looks at one type for all fields
    for tree in (False, True):
        alone, together = (results.workload(TIMIT_ROWS, s, n) for n in (1, p))
        fan_in = best_fan_in(node, together, p) if tree else None
        seconds = [iteration_s(node, w, n, f)["iteration"] for w, n, f in ((alone, 1, None), (together, p, fan_in))]
        shares.append(f"{seconds[0] / seconds[1] / p:.0%}")
    return (
        f"If each worker were a node that computes {NODE} times as fast, with unchanged communication, the efficiency "
        f"of {p} of them would be {shares[0]} as a star and {shares[1]} as the best tree."
    )


def _limits(results: Results) -> str:
    """Cost of communication for many workers, and the share of an iteration without computing."""
    c, s = results.constants, results.plan.curvature_rows[-1]
    header = [
        "workers",
        "data through the client, MB",
        "without computing, star",
        "best fan-in",
        "without computing, tree",
    ]
    header += ["processor of the scheduler"]
    lines = []
    for p in MANY:
        work = results.workload(TIMIT_ROWS, s, p)
        nbytes = p * sum(e.count * (e.nbytes_out + e.nbytes_in) for e in exchanges(work))
        fan_in = best_fan_in(c, work, p)
        shares = [f"{transport_share(c, work, p, f):.0%}" for f in (None, fan_in)]
        cells = [f"{p:,}", f"{nbytes / 1e6:,.0f}", shares[0], str(fan_in or "star"), shares[1]]
        lines.append([*cells, f"{p * c.scheduler_share:.0%}"])
    fastest = best_workers(c, results.workload(TIMIT_ROWS, s, max(WORKERS)), WORKERS)
    fastest_text = f"With {s:,} curvature rows the star is fastest with {fastest:,} workers. {_nodes(results, s)}"
    return f"{markdown(header, lines)}\n\n{fastest_text}"
