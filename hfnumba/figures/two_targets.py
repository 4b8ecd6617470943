"""Time of training to a target by the number of workers, modelled from files of results: a part of figure 2."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hfnumba.errors import UsageError
from hfnumba.figures import style
from hfnumba.figures.summary import markdown
from hfnumba.figures.two_table import WORKERS

if TYPE_CHECKING:
    from hfnumba.bench.model import Constants
    from hfnumba.bench.quality.problems import Problem
    from hfnumba.bench.quality.summary import TargetSummary
    from hfnumba.bench.round_costs import RoundCost
    from hfnumba.bench.targets import Training
    from hfnumba.network import Network

LINKS = (1.0, 10.0, 100.0)
"""Bandwidths in Gbit/s."""
_SHOWN = (1, 4, 16, 64, 256)
_ALONE = 0.5
"""Place on the axis of one machine without a network."""

MeasureRound = Callable[[str, "Network"], "RoundCost"]


@dataclass(frozen=True)
class Way:
    """A target of a problem, and how each method gets there.

    Attributes
    ----------
    title : str
    label : str
        The target in a few words.
    trainings : tuple of Training
        Methods that reach it with every seed.
    first_order : frozenset of str
        Settings of first-order methods.
    missing : tuple of str
        Settings of methods that do not reach it with every seed.
    """

    title: str
    label: str
    trainings: tuple[Training, ...]
    first_order: frozenset[str]
    missing: tuple[str, ...]


def write_targets(out: Path, constants: Constants, files: Iterable[Path], measure_round: MeasureRound) -> list[Path]:
    """Write ``two-targets.png``, ``.svg``, ``.md`` and ``.json``; return their paths.

    Parameters
    ----------
    out : Path
        Folder.
    constants : Constants
        Constants of rounds, as figure 2 measures them.
    files : iterable of Path
        Files of results of ``hfnumba bench quality``.
    measure_round : callable
        :func:`hfnumba.bench.round_costs.measure_round`, or a function that stores what it returns.

    Raises
    ------
    CheckpointError
        If a file is no file of results, or an output cannot be written.
    UsageError
        If no method has reached a target with every seed.
    """
    ways = [way for path in files for way in ways_of(path, measure_round)]
    numbers = [
        {"title": way.title, "methods": [asdict(one) for one in way.trainings], "missing": way.missing}
        | {"seconds": [{"gbit_s": link, "workers": WORKERS, **_seconds(constants, way, link)} for link in LINKS]}
        for way in ways
    ]
    return [
        *_draw(out, constants, ways),
        style.write(out / "two-targets.md", f"{tables(constants, ways)}\n".encode()),
        style.write(out / "two-targets.json", f"{json.dumps(numbers, indent=1)}\n".encode()),
    ]


def ways_of(path: Path, measure_round: MeasureRound) -> list[Way]:
    """Read a file of results: its first target, and its first one of held-out error if that is another.

    Raises
    ------
    CheckpointError
        If it is no file of results.
    UsageError
        If no method has reached a target with every seed.
    """
    from hfnumba.bench.quality.command import read_results  # noqa: PLC0415 - slow to import
    from hfnumba.bench.quality.summary import methods_of, summarise  # noqa: PLC0415
    from hfnumba.network import Network  # noqa: PLC0415

    setting, problem, results = read_results(path)
    activation = setting["activation"]
    activations = activation if isinstance(activation, str) else tuple(activation)
    network = Network(tuple(setting["sizes"]), activations, setting["objective"])
    summaries = summarise(problem, methods_of(results), results)
    first, *others = summaries
    chosen = [first, *[one for one in others if one.quantity == "test_error"][:1]]
    return [_way(path, setting["problem"], problem, one, lambda name: measure_round(name, network)) for one in chosen]


def _way(
    path: Path, name: str, problem: Problem, summary: TargetSummary, measure_round: Callable[[str], RoundCost]
) -> Way:
    from hfnumba.bench.quality.methods import CONTESTANTS  # noqa: PLC0415
    from hfnumba.bench.targets import Training  # noqa: PLC0415
    from hfnumba.figures.quality import NAMES, title  # noqa: PLC0415

    trainings, missing = [], []
    for one in summary.attainments:
        own = _registered(one.method)
        rounds, gflop, seconds = (one.median(cost) for cost in ("rounds", "gflop", "seconds"))
        if own is None:
            continue
        if rounds is None or gflop is None or seconds is None:
            missing.append(one.setting)
            continue
        round_cost = measure_round(own)
        if CONTESTANTS[one.method].is_first_order:
            # Its update is a part of the seconds that workers share, in its favour.
            round_cost = replace(round_cost, client_s=0.0)
        trainings.append(Training(one.setting, rounds, gflop, seconds, round_cost))
    if not trainings:
        raise UsageError(
            f"expected a method that reaches the {title(problem, summary)} with every seed in {path}; run it for longer"
        )
    first_order = frozenset(a.setting for a in summary.attainments if CONTESTANTS[a.method].is_first_order)
    text = title(problem, summary)
    label = f"Adam's lowest {NAMES[summary.quantity]}" if summary.is_reference else text
    return Way(f"{name}: {text}", label, tuple(trainings), first_order, tuple(missing))


def _registered(contestant: str) -> str | None:
    """Return the method of this package that makes the same rounds as a contestant; None if there is none."""
    from hfnumba.optim.methods import METHODS  # noqa: PLC0415

    name = contestant if contestant in METHODS else contestant.rpartition("-")[2]
    return name if name in METHODS else None


def _seconds(constants: Constants, way: Way, gbit_s: float) -> dict[str, list[float]]:
    """Seconds to the target for each setting and each of :data:`WORKERS`."""
    from hfnumba.bench.targets import on_network, training_s  # noqa: PLC0415

    network = on_network(constants, gbit_s)
    return {one.setting: [training_s(network, one, p) for p in WORKERS] for one in way.trainings}


def tables(constants: Constants, ways: Sequence[Way]) -> str:
    """Format rounds, times and crossing points of every target."""
    return "\n\n".join(text for way in ways for text in _section(constants, way))


def _section(constants: Constants, way: Way) -> list[str]:
    found = {link: _seconds(constants, way, link) for link in LINKS}
    costs = []
    for one in way.trainings:
        cost = one.round_cost
        counted = [f"{one.rounds:,.0f}", _number(one.gflop), _number(one.seconds)]
        megabytes = [_number(nbytes / 1e6) for nbytes in (cost.nbytes_out, cost.nbytes_in)]
        client = "–" if one.setting in way.first_order else _number(1e3 * cost.client_s)
        costs.append([one.setting, *counted, *megabytes, client])
    header = ["method", "rounds", "GFLOP", "s on one machine", "MB out a round", "MB back", "client, ms a round"]
    parts = [f"**{way.title}**", markdown(header, costs)]
    if way.missing:
        parts.append(f"Not with every seed: {'; '.join(way.missing)}.")
    lines = []
    for one, link in itertools.product(way.trainings, LINKS):
        seconds = dict(zip(WORKERS, found[link][one.setting], strict=True))
        best = min(seconds, key=lambda p: seconds[p])
        times = [_number(seconds[p]) for p in _SHOWN]
        lines.append([one.setting, f"{link:g}", *times, f"{_number(seconds[best])} ({best:,})"])
    names = [f"{p:,} workers, s" if p > 1 else "1 worker, s" for p in _SHOWN]
    parts.append(markdown(["method", "Gbit/s", *names, "least, s (workers)"], lines))
    return [*parts, _fastest(way, found), *_crossing_table(way, found)]


def _fastest(way: Way, seconds: Mapping[float, dict[str, list[float]]]) -> str:
    """Say which method is the fastest on each network, by the number of workers."""
    texts = []
    for link, found in seconds.items():
        names = [min(found, key=lambda name: found[name][k]) for k in range(len(WORKERS))]
        changes = [k for k in range(1, len(WORKERS)) if names[k] != names[k - 1]]
        later = [f"{_short(names[k])} from {WORKERS[k]:,} workers on" for k in changes]
        texts.append(f"{link:g} Gbit/s: {', '.join([_short(names[0]), *later])}")
    return f"The fastest: {'; '.join(texts)}."


def _crossing_table(way: Way, seconds: Mapping[float, dict[str, list[float]]]) -> list[str]:
    """Table of the pairs of methods whose order depends on the number of workers; nothing if there are none."""
    pairs = [
        [f"{_short(a.setting)} : {_short(b.setting)}", *(_order(a, b, found) for found in seconds.values())]
        for a, b in itertools.combinations(way.trainings, 2)
    ]
    crossing = [pair for pair in pairs if any("from" in cell for cell in pair[1:])]
    return [markdown(["the faster of", *(f"{link:g} Gbit/s" for link in seconds)], crossing)] if crossing else []


def _order(a: Training, b: Training, seconds: dict[str, list[float]]) -> str:
    """Say which of two methods is faster, and from how many workers on the other one is."""
    from hfnumba.bench.targets import crossings  # noqa: PLC0415

    ours, theirs = seconds[a.setting], seconds[b.setting]
    names = itertools.cycle((a.setting, b.setting) if ours[0] < theirs[0] else (b.setting, a.setting))
    first = _short(next(names))
    changes = [f"{_short(next(names))} from {p:,} workers" for p in crossings(WORKERS, ours, theirs)]
    return "; ".join([first, *changes])


def _number(value: float) -> str:
    """Format a number with at least two digits."""
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 1 else f"{value:.2g}"


def _short(setting: str) -> str:
    return setting.partition(",")[0]


def _draw(out: Path, constants: Constants, ways: Sequence[Way]) -> list[Path]:
    """Draw a row of logarithmic panels for each target, one for each bandwidth."""
    figure = style.new_figure(11, 0.8 + 3.3 * len(ways))
    axes: Any = figure.subplots(len(ways), len(LINKS), sharex=True, sharey="row", squeeze=False)
    methods = list(dict.fromkeys(_short(one.setting) for way in ways for one in way.trainings))
    for i, way in enumerate(ways):
        for j, link in enumerate(LINKS):
            _panel(axes[i, j], way, _seconds(constants, way, link), methods)
            axes[i, j].set_title(f"{link:g} Gbit/s" if i == 0 else "", fontsize=10)
        axes[i, 0].set_ylabel(f"seconds to {way.label}", fontsize=9)
        axes[i, 0].annotate(
            way.title.partition(":")[0], (0, 1), (0, 4), "axes fraction", "offset points", fontweight="bold"
        )
    for panel in axes[-1]:
        panel.set_xlabel("workers")
    _legend(figure, ways, methods)
    return style.save_both(figure, out, "two-targets")


def _panel(axes: Any, way: Way, seconds: dict[str, list[float]], methods: Sequence[str]) -> None:
    for one in way.trainings:
        look = _look(one.setting, way, methods)
        axes.plot(WORKERS, seconds[one.setting], **look, linewidth=1.6, markersize=3.5)
        axes.plot([_ALONE], [one.seconds], **(look | {"linestyle": "none"}), markersize=6)
    axes.set_yscale("log")
    axes.set_xscale("log", base=2)
    axes.set_xticks([_ALONE, *WORKERS[::2]], labels=["none", *map(str, WORKERS[::2])])
    axes.minorticks_off()
    axes.tick_params(labelsize=8)
    axes.axvline(_ALONE * 2**0.5, color="0.6", linewidth=0.8, linestyle=style.DOTTED)
    style.tidy(axes)


def _look(setting: str, way: Way, methods: Sequence[str]) -> dict[str, Any]:
    """Colour and marker of a method; first-order ones are dashed and hollow."""
    look = style.look(methods.index(_short(setting)))
    if setting not in way.first_order:
        return look
    return {**look, "linestyle": style.DASHED, "markerfacecolor": "white"}


def _legend(figure: Any, ways: Sequence[Way], methods: Sequence[str]) -> None:
    from matplotlib.lines import Line2D  # noqa: PLC0415

    first = {_short(one.setting): (one.setting, way) for way in reversed(ways) for one in way.trainings}
    handles = [Line2D([], [], **_look(*first[name], methods), label=name) for name in methods]
    figure.legend(handles=handles, loc="outside upper center", ncols=len(handles), frameon=False)
