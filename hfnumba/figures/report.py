"""Report of a run: one page of HTML with its pictures, findings, settings, data, machine and every iteration."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

import msgspec

from hfnumba import ledger
from hfnumba.errors import CheckpointError, HfnumbaError, printable
from hfnumba.figures import style
from hfnumba.figures.curves import Curves, drawn, read_curves
from hfnumba.metrics import ERROR, R2, RMSE, SPLITS, metrics_of
from hfnumba.path_text import text_path
from hfnumba.run.directory import RunDirectory
from hfnumba.run.explain import Finding, explain
from hfnumba.run.records import RunRecord, StoreRecord
from hfnumba.run.scores import completed
from hfnumba.run.settings import as_dict

_PANELS = {"damping": "damping", "rho": "reduction ratio", "grad_norm": "length of the gradient", "seconds": "seconds"}
_COLUMNS = {
    "iteration": "iteration",
    "loss": "loss",
    **{
        f"{beginning}{name}": f"{beginning}{shown}".replace("_", " ")
        for beginning in ("", "validation_", "test_")
        for name, shown in (("loss", "loss"), *((metric.key, metric.name) for metric in (ERROR, RMSE, R2)))
        if beginning or name != "loss"
    },
    "damping": "damping",
    "rho": "reduction ratio",
    "alpha": "step length",
    "direction": "direction",
    "krylov_status": "solver",
    "n_matvec": "products",
    "rounds": "rounds",
    "elapsed_s": "seconds",
    "note": "note",
}
_NAMES = 100
"""Names of columns, classes or targets that are listed; of more, the others are counted."""

_STYLE = """
:root { color-scheme: light; font: 15px/1.5 system-ui, sans-serif; color: #222; }
body { max-width: 76rem; margin: 2rem auto; padding: 0 1.5rem; }
h1 { font-size: 1.5rem; margin-bottom: 0; } h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; }
.summary { color: #555; margin-top: .2rem; }
img { width: 100%; height: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .2rem .9rem .2rem 0; border-bottom: 1px solid #e5e5e5; }
td.number, th.number { text-align: right; } td.long { overflow-wrap: anywhere; max-width: 50rem; }
.scroll { overflow-x: auto; } .scroll td:last-child { min-width: 18rem; }
 pre { background: #f5f5f5; padding: .7rem; overflow-x: auto; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(22rem, 1fr)); gap: 0 3rem; }
li.fault::marker { content: "!  "; color: #b30000; font-weight: bold; }
li.good::marker { content: "+  "; color: #00702e; }
"""


def report(run: Path, out: Path) -> Path:
    """Write the report of a run, which needs no other file and no network; return its path.

    Raises
    ------
    CheckpointError
        If this is no run, it has no iteration yet, its files are damaged, or the report cannot be written.
    UsageError
        If matplotlib is not installed.
    """
    directory = RunDirectory(run)
    record, around = directory.record(), directory.surroundings()
    lines = completed(ledger.read(directory.ledger), record.network.loss)
    if not lines:
        raise CheckpointError(f"{run} has no iteration yet; report it after the first one")
    return style.write(out, page(run, record, around, lines, explain(run)).encode())


def page(
    run: Path,
    record: RunRecord,
    around: Mapping[str, Mapping[str, str]],
    lines: Sequence[ledger.Line],
    findings: Sequence[Finding],
) -> str:
    """Return the page as text."""
    name, settings, network = printable(run.resolve().name), record.settings, record.network
    layers = "-".join(map(str, network.sizes))
    last = lines[-1]
    seconds = f"{last['elapsed_s']:.1f} s"
    head = f"{settings.method} on a network {layers}; {last['iteration']} iterations in {seconds}"
    machine = dict(around["machine"])
    command = machine.pop("command", "")
    if "arithmetic" in machine:
        machine = {"processor and BLAS": machine.pop("arithmetic")} | machine
    parts = [
        f"<h1>{escape(name)}</h1><p class='summary'>{escape(head)}</p>",
        _section("Findings", "<ul>" + "".join(map(_finding, findings)) + "</ul>"),
        _section("Loss and error", _picture(drawn([read_curves(run)]), "Loss and error against their costs")),
        _section("Steps and timings", _timings(lines) + _picture(_details(lines), "Damping, reduction ratio and time")),
        _section("Command line", f"<pre>{escape(command)}</pre>") if command else "",
        "<div class='columns'>",
        _section("Settings", _pairs(as_dict(settings))),
        _section("Network", _pairs(msgspec.to_builtins(network))),
        _section("Data", _pairs(_provenance(record.store))),
        _section("Machine", _pairs(machine)),
        _section("Versions", _pairs(around["versions"])),
        "</div>",
        _section(
            "Iterations",
            f"<details open><summary>{len(lines)} lines</summary>{_table(lines, record.network.loss)}</details>",
        ),
    ]
    return (
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'>"
        "<meta name='viewport' content='width=device-width'>"
        f"<title>{escape(name)}</title><style>{_STYLE}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _provenance(record: StoreRecord) -> dict[str, Any]:
    """Return what the run records about its data, and what the store says about its sources, if it is still there."""
    fields = msgspec.to_builtins(record)
    found = {key: _recorded(value) for key, value in fields.items() if value not in ([], ())}
    from hfnumba.store import open_store  # noqa: PLC0415 - slow to import
    from hfnumba.store.info import info  # noqa: PLC0415

    try:
        store = open_store(text_path(record.path))
    except HfnumbaError:
        return found
    if store.digest != record.digest:
        return found
    said = info(store)
    found |= {key: said[key] for key in ("title", "licence", "homepage", "note", "seed") if said[key] not in (None, "")}
    found |= {f"rows of {name}": split["n_rows"] for name, split in said["splits"].items()}
    return found | {source["name"]: f"sha256 {source['sha256']}" for source in said["sources"]}


def _recorded(value: Any) -> Any:
    """Return a value of the store's record as it is shown: of a list its names, of numbers how many there are."""
    if not isinstance(value, (list, tuple)):
        return value
    names = [_column(item) if isinstance(item, dict) else item for item in value]
    if all(isinstance(name, str) for name in names):
        return ", ".join([*names[:_NAMES], *([f"and {len(names) - _NAMES} more"] if len(names) > _NAMES else [])])
    return f"{len(names)} recorded"


def _column(column: Mapping[str, Any]) -> str:
    categories = column.get("categories")
    return column["name"] if categories is None else f"{column['name']} ({len(categories)} categories)"


def _section(title: str, body: str) -> str:
    return f"<section><h2>{escape(title)}</h2>{body}</section>"


def _finding(finding: Finding) -> str:
    kind = "good" if finding.good else "fault"
    return f"<li class='{kind}'><b>{escape(finding.cause)}</b>: {escape(printable(finding.text))}</li>"


def _pairs(values: Mapping[str, Any]) -> str:
    rows = (
        f"<tr><th>{escape(key.replace('_', ' ') if key.isidentifier() else key)}</th>"
        f"<td class='long'>{escape(_text(value))}</td></tr>"
        for key, value in values.items()
    )
    return f"<table>{''.join(rows)}</table>"


def _text(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_text, value))
    return "–" if value is None else f"{value:.6g}" if isinstance(value, float) else printable(str(value))


def _table(lines: Sequence[ledger.Line], loss: str) -> str:
    # The error of a regression is no share.
    without = {f"{beginning}{metric.key}" for beginning in SPLITS for metric in (ERROR, RMSE, R2)}
    without -= {f"{beginning}{metric.key}" for beginning in SPLITS for metric in metrics_of(loss)}
    columns = {
        key: title
        for key, title in _COLUMNS.items()
        if key not in without and any(line.get(key) not in (None, "") for line in lines)
    }
    numbers = {key for key in columns if all(isinstance(line.get(key), (int, float, type(None))) for line in lines)}

    def cells(tag: str, values: Mapping[str, Any]) -> str:
        return "".join(
            f"<{tag}{' class=number' if key in numbers else ''}>{escape(_text(values.get(key)))}</{tag}>"
            for key in columns
        )

    body = "".join(f"<tr>{cells('td', line)}</tr>" for line in lines)
    return f"<div class='scroll'><table><tr>{cells('th', columns)}</tr>{body}</table></div>"


def _timings(lines: Sequence[ledger.Line]) -> str:
    last, steps = lines[-1], max(1, lines[-1]["iteration"] - lines[0]["iteration"])
    each = (last["elapsed_s"] - lines[0]["elapsed_s"]) / steps
    facts = {
        "seconds in all": last["elapsed_s"],
        "seconds of an iteration": each,
        "passes over the data": last["epoch"],
        "rounds": last["rounds"],
        "MB sent and received": last["nbytes"] / 1e6,
    }
    return _pairs(facts)


def _details(lines: Sequence[ledger.Line]) -> Any:
    """Draw damping, reduction ratio, gradient and time of each iteration that has them."""
    before = [None, *(line["elapsed_s"] for line in lines[:-1])]
    timed = [
        line | {"seconds": None if start is None else line["elapsed_s"] - start}
        for line, start in zip(lines, before, strict=True)
    ]
    curves = Curves("", tuple(timed), ())
    panels = {key: label for key, label in _PANELS.items() if curves.points("iteration", key, 1.0)[0]}
    figure = style.new_figure(14, 3.0)
    for k, (key, label) in enumerate(panels.items()):
        axes: Any = figure.add_subplot(1, len(panels), k + 1)
        x, y = curves.points("iteration", key, 1.0)
        axes.plot(x, y, **style.look(k), linewidth=1.8, markersize=3.5)
        if min(y) > 0 and max(y) > 10 * min(y):
            axes.set_yscale("log")
        axes.set(xlabel="iterations", ylabel=label)
        axes.xaxis.get_major_locator().set_params(integer=True)
        style.tidy(axes)
    return figure


def _picture(figure: Any, title: str) -> str:
    out = io.BytesIO()
    figure.savefig(out, format="svg")
    text = base64.b64encode(out.getvalue()).decode()
    return f"<img alt='{escape(title)}' src='data:image/svg+xml;base64,{text}'>"
