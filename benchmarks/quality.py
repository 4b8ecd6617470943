"""Tables and pictures of docs/quality.md, from files of results.

    hfnumba bench quality mnist          # and other problems: see docs/quality.md
    python benchmarks/quality.py quality-*.jsonl --write docs/quality.md
    python benchmarks/quality.py quality-*.jsonl --overview README.md

The tables of a problem go between its own markers, such as `quality-mnist` or, with a penalty, `quality-mnist-l2`;
pictures to the folder `figures` beside the page. The overview has, for the first target of each file, the fastest
first-order method and the fastest method of this package.
"""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pages import publish

from hfnumba.bench.quality.command import read_results
from hfnumba.bench.quality.methods import CONTESTANTS
from hfnumba.bench.quality.summary import Attainment, methods_of, summarise
from hfnumba.figures.quality import FORMATS, NAMES, draw, header, peers_text, table, title
from hfnumba.figures.summary import markdown
from hfnumba.versions import as_text


def _heading(setting: Mapping[str, Any]) -> str:
    """Return the name of a file's problem, with its penalty."""
    name: str = setting["problem"]
    return name + (f", l2 = {setting['l2']:g}" if setting.get("l2") else "")


def section(path: Path, page: Path | None) -> tuple[str, str]:
    """Return the name of the markers, and the tables of a file, its setting, and, for a page, its picture, drawn."""
    setting, problem, results = read_results(path)
    summaries = summarise(problem, methods_of(results), results)
    name = f"quality-{setting['problem']}" + ("-l2" if problem.l2 else "")
    network = "-".join(map(str, setting["sizes"]))
    others = max(result.others for result in results)
    seeds = len({result.run.seed for result in results if not result.run.is_trial})
    parts = [
        f"### {_heading(setting)}\n\n{problem.summary}. Network {network}, "
        f"{setting['activation']}, {setting['objective']}; {setting['rows']:,} training and "
        f"{setting['test_rows']:,} held-out rows; at most "
        f"{setting['minutes']:g} min a run; {seeds} seed{'s' if seeds > 1 else ''}. "
        f"{setting['processors']} processors, {setting['machine']}; {as_text(setting['versions'])}. Other processes "
        f"took at most {others:.0%} of the processors during a run."
    ]
    if page is not None:
        draw(problem, results, summaries, page.parent / "figures" / f"{name}.png")
        parts.append(f"![Quality against rounds and seconds](figures/{name}.png)")
    for summary in summaries:
        rows = markdown(header(summary.quantity), table(problem, summary))
        parts += [f"To a {title(problem, summary)}:", rows, *filter(None, [peers_text(summary)])]
    return name, "\n\n".join(parts)


def overview(paths: list[Path]) -> str:
    """Format the fastest method of both kinds for the first target of each file; medians over the seeds."""
    costs = ["rounds", "seconds"]
    columns = ["problem", "target", "first-order method", *costs, "method of this package", *costs]
    rows = []
    for path in paths:
        setting, problem, results = read_results(path)
        summary = summarise(problem, methods_of(results), results)[0]
        own = [
            one
            for one in summary.attainments
            if not CONTESTANTS[one.method].is_first_order and one.median("seconds") is not None
        ]
        fastest = [summary.best_peer("seconds"), min(own, key=lambda one: one.median("seconds") or 0.0, default=None)]
        cells = [text for one in fastest for text in _cells(one)]
        lowest = f"Adam's lowest {NAMES[summary.quantity]} in {setting['minutes']:g} min"
        target = lowest if summary.is_reference else title(problem, summary)
        rows.append([f"{_heading(setting)}, {'-'.join(map(str, setting['sizes']))}", target, *cells])
    return markdown(columns, rows)


def _cells(one: Attainment | None) -> list[str]:
    if one is None:
        return ["none reached it", "–", "–"]
    return [one.setting, *(FORMATS[cost](one.median(cost) or 0.0) for cost in ("rounds", "seconds"))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path, nargs="+", help="files that `hfnumba bench quality` wrote")
    parser.add_argument("--write", type=Path, help="a Markdown file with the markers of each problem")
    parser.add_argument("--overview", type=Path, help="a Markdown file with the markers named `quality`")
    given = parser.parse_args()
    if given.overview is not None:
        publish(overview(given.results), given.overview, "quality", given.results)
        return
    for path in given.results:
        name, tables = section(path, given.write)
        publish(tables, given.write, name, [path])


if __name__ == "__main__":
    main()
