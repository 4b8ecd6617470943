"""Settings of a run: one frozen structure, validated in one place, from the command line and from TOML alike."""

from __future__ import annotations

import difflib
import json
import math
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec

from hfnumba.errors import UsageError
from hfnumba.optim.methods import settings_of

Count = Annotated[int, msgspec.Meta(ge=1)]
Natural = Annotated[int, msgspec.Meta(ge=0)]
Positive = Annotated[float, msgspec.Meta(gt=0)]
NotNegative = Annotated[float, msgspec.Meta(ge=0)]
Share = Annotated[float, msgspec.Meta(ge=0, le=1)]
# A worker is asked for a sign of life after a quarter of this, and looked at twice a second.
Silence = Annotated[float, msgspec.Meta(ge=2)]


class TrainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a user chooses about a run. None leaves the choice to the optimiser, or to the task for ``loss``.

    Attributes
    ----------
    hidden : tuple of int
        Widths of the hidden layers; may be empty.
    activation, init, loss : str
        See :class:`hfnumba.network.Network`.
    method : str
        One of :data:`hfnumba.optim.methods.METHODS`.
    curvature_rows, damping, radius, krylov_iterations, warm_start, backtracking_ratio, preconditioner, candidates, line_search,
    line_rows
        See :class:`hfnumba.optim.hessian_free.HessianFree`.
    paper : bool or None
        Take every choice that is not given from :func:`hfnumba.optim.paper.paper`.
    learning_rate, batch_rows, momentum
        See :class:`hfnumba.optim.first_order.SGD`.
    history : int or None
        See :class:`hfnumba.optim.lbfgs.LBFGS`.
    l2 : float
        f has the penalty l2/2 · ‖weights‖².
    class_weights : "balanced", tuple of float, or None
        Weight of each class in the mean loss: one number a class, or those of
        :func:`hfnumba.store.class_weights.balanced` for the training split.
    seed : int
        Of the initial parameters and of all samples.
    max_iterations : int
        Outer iterations in total, those before an interruption included.
    target_error : float or None
        Stop once the training error is at most this share.
    time_limit_s : float or None
        Stop after the iteration in which this process has run for so many seconds.
    cluster : str
        See :func:`hfnumba.launch.open_cluster`.
    threads : int or None
        Threads of this process, or of each local worker.
    memory : str or None
        What each worker may use for rows, samples and primal passes, such as ``"2GiB"``; None for 60 % of what it has.
    worker_timeout_s : float
        How long a worker may give no sign of life during a round before its partitions go to others; at least 2.
    fan_in : int or None
        See :class:`hfnumba.engine.DaskObjective`.
    """

    hidden: tuple[Count, ...]
    activation: str = "tanh"
    init: str = "glorot"
    loss: str | None = None
    method: str = "hf-bicgstab"
    curvature_rows: Count | None = None
    damping: Positive | None = None
    radius: Positive | None = None
    krylov_iterations: Count | None = None
    warm_start: Share | None = None
    backtracking_ratio: Positive | None = None
    preconditioner: str | None = None
    candidates: str | None = None
    line_search: str | None = None
    line_rows: Count | None = None
    paper: bool | None = None
    learning_rate: Positive | None = None
    batch_rows: Count | None = None
    momentum: Share | None = None
    history: Count | None = None
    l2: NotNegative = 0.0
    class_weights: Literal["balanced"] | tuple[NotNegative, ...] | None = None
    seed: Natural = 0
    max_iterations: Natural = 30
    target_error: Share | None = None
    time_limit_s: Positive | None = None
    cluster: str = "none"
    threads: Count | None = None
    memory: str | None = None
    worker_timeout_s: Silence = 60.0
    fan_in: Count | None = None


CHANGEABLE = (
    "max_iterations",
    "time_limit_s",
    "target_error",
    "cluster",
    "threads",
    "memory",
    "worker_timeout_s",
    "fan_in",
)
"""Limits and placement: they may differ when a run is resumed. Anything else would make it another run."""

_OF_OPTIMIZERS = (
    "curvature_rows",
    "damping",
    "radius",
    "krylov_iterations",
    "warm_start",
    "backtracking_ratio",
    "preconditioner",
    "candidates",
    "line_search",
    "line_rows",
    "paper",
    "learning_rate",
    "batch_rows",
    "momentum",
    "history",
    "seed",
    "max_iterations",
    "target_error",
)
_TABLES_OF_A_RUN = ("network", "store", "versions")


def settings_from(given: Mapping[str, Any]) -> TrainSettings:
    """Validate settings.

    Raises
    ------
    UsageError
        Naming the setting, what was expected and what came; for an unknown one the nearest that exists.
    """
    refuse_unknown(given, "the list of settings")
    if "hidden" not in given:
        raise UsageError(
            "the settings do not say how wide the hidden layers are; give --hidden, such as --hidden 400,150"
        )
    try:
        return msgspec.convert(dict(given), TrainSettings)
    except msgspec.ValidationError as error:
        raise UsageError(_located(error, given)) from None


def refuse_unknown(given: Mapping[str, Any], where: str) -> None:
    """Refuse a setting that does not exist."""
    known = TrainSettings.__struct_fields__
    for name in given:
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"the settings are {', '.join(known)}"
            raise UsageError(f"{where} has an unknown setting {name!r}; {hint}")


def read_config(path: Path) -> dict[str, Any]:
    """Read settings from TOML: a file of your own, or the ``config.toml`` of a run, of which other tables are left out.

    Raises
    ------
    UsageError
        If it cannot be read, is not TOML, or names an unknown setting.
    """
    try:
        document = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"the settings file {path} cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UsageError(f"the settings file {path} is not TOML: {error}") from None
    given = {name: value for name, value in document.items() if name not in _TABLES_OF_A_RUN}
    refuse_unknown(given, str(path))
    return given


def as_dict(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings that are not None as TOML and JSON can hold them."""
    return {name: value for name, value in msgspec.to_builtins(settings).items() if value is not None}


def fixed(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings that must not change within a run."""
    return {name: value for name, value in as_dict(settings).items() if name not in CHANGEABLE}


def memory_bytes(settings: TrainSettings) -> int | None:
    """Return the bytes of the setting ``memory``.

    Raises
    ------
    UsageError
        If it is no size.
    """
    from dask.utils import parse_bytes  # noqa: PLC0415 - slow to import

    if settings.memory is None:
        return None
    try:
        # A unit alone would be read as one of it, and nothing at all as a byte.
        n = int(parse_bytes(settings.memory)) if any(map(str.isdigit, settings.memory)) else 0
    except (ValueError, AttributeError, OverflowError):
        n = 0
    if n < 1:
        raise UsageError(f"setting memory: expected a size such as 2GiB or 500MB, got {settings.memory!r}")
    return n


def optimizer_settings(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings that go to :func:`hfnumba.optim.methods.optimizer`.

    ``curvature_rows`` is left out for a method without curvature, so that one command line compares all methods.
    """
    given = as_dict(settings)
    if "curvature_rows" not in settings_of(settings.method):
        given.pop("curvature_rows", None)
    return {name: given[name] for name in _OF_OPTIMIZERS if name in given}


def toml(table: Mapping[str, Any]) -> str:
    """Write scalars, lists of numbers and one level of tables as TOML."""
    lines = [f"{key} = {_value(value)}" for key, value in table.items() if not isinstance(value, Mapping)]
    for key, value in table.items():
        if isinstance(value, Mapping):
            lines += ["", f"[{key}]", toml(value).rstrip()]
    return "\n".join(lines) + "\n"


def _value(value: Any) -> str:
    if isinstance(value, str):
        # A JSON string is a TOML basic string, but for DEL, which TOML wants escaped.
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    # JSON has no infinity; TOML calls it inf.
    return str(value) if isinstance(value, float) and math.isinf(value) else json.dumps(value)


_IN_WORDS = {
    "`int`": "a whole number",
    "`float`": "a number",
    "`str`": "text",
    " >= ": " of at least ",
    " <= ": " of at most ",
    " > ": " above ",
}


def _located(error: msgspec.ValidationError, given: Mapping[str, Any]) -> str:
    """Turn "Expected … - at `$.hidden[0]`" into a sentence with the value that came."""
    expected, _, place = str(error).partition(" - at `$.")
    place = place.rstrip("`")
    name, _, index = place.partition("[")
    value = given.get(name)
    if index.rstrip("]").isdigit() and isinstance(value, (list, tuple)):
        value = value[int(index.rstrip("]"))]
    wanted = expected.partition(", got")[0]
    for code, words in _IN_WORDS.items():
        wanted = wanted.replace(code, words)
    wanted = re.sub(r"\.0$", "", wanted)
    return f"setting {place}: {wanted[:1].lower()}{wanted[1:]}, got {value!r}"
