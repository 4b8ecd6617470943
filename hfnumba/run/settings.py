"""Settings of a run: one table, from which options, their help, validation and the rules of resuming are derived."""

from __future__ import annotations

from typing import Annotated, Any, Literal, get_type_hints

import msgspec

from hfnumba.activations import ACTIVATIONS, OTHER_NAMES
from hfnumba.krylov.preconditioners import PRECONDITIONERS
from hfnumba.network import INITIALIZATIONS, LOSSES
from hfnumba.optim.hessian_free import CANDIDATES
from hfnumba.optim.line_search import SEARCH_RULES
from hfnumba.optim.methods import METHODS
from hfnumba.run.options import Callee, Group, Option
from hfnumba.run.setting_types import ALL, Count, Fraction, Natural, NotNegative, Positive, Ratio, Rows, Share, Silence


class TrainSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Settings of a training run. A field is a row of the table: type with bounds, description, and default.

    None leaves the choice to the method, to the task for ``loss``, or to the machine for placement; the description
    says which it is. A setting of a method or of a Dask objective reaches it by its name, so it needs nothing but its
    row here.
    """

    hidden: Annotated[
        tuple[Count, ...],
        Option(Group.NETWORK, "Widths of the hidden layers, such as 400,150; needed for a new run.", metavar="N,N,…"),
    ]
    activation: Annotated[
        str | tuple[str, ...],
        Option(
            Group.NETWORK,
            "Activation of the hidden layers, or one for each: {choices}, which is identity.",
            metavar="NAME|NAME,NAME,…",
            choices=(*ACTIVATIONS, *OTHER_NAMES),
        ),
    ] = "tanh"
    init: Annotated[
        str, Option(Group.NETWORK, "Initialisation of the weights: {choices}.", metavar="NAME", choices=INITIALIZATIONS)
    ] = "glorot"
    task: Annotated[
        str | None,
        Option(
            Group.OBJECTIVE,
            "Task: {choices}, whose targets are the inputs; labels and targets of the store are not read.",
            "that of the store",
            choices=("autoencode",),
        ),
    ] = None
    loss: Annotated[
        str | None, Option(Group.NETWORK, "Loss: {choices}.", "by the task", metavar="NAME", choices=LOSSES)
    ] = None
    method: Annotated[
        str, Option(Group.METHOD, "Optimisation method: {choices}.", metavar="NAME", choices=tuple(METHODS))
    ] = "hf-bicgstab"
    curvature_rows: Annotated[
        Rows | None,
        Option(Group.SECOND_ORDER, "Number of rows in the curvature sample, or all.", "4096", "N|all", (ALL,)),
    ] = None
    damping: Annotated[
        Positive | None,
        Option(Group.SECOND_ORDER, "Initial damping.", "0.01; 0.001 for kfac; 0.1 without kfac's preconditioner"),
    ] = None
    radius: Annotated[Positive | None, Option(Group.SECOND_ORDER, "Initial trust radius of hf-steihaug.", "1")] = None
    krylov_iterations: Annotated[
        Count | None,
        Option(
            Group.SECOND_ORDER,
            "Maximum number of solver iterations in a step.",
            "3, or 2 for Bi-CG-STAB; without kfac 10 products, 20 with --paper",
        ),
    ] = None
    warm_start: Annotated[
        Share | None,
        Option(Group.SECOND_ORDER, "Multiple of the previous step from which a solve starts.", "0.95; 0 with --paper"),
    ] = None
    backtracking_ratio: Annotated[
        Ratio | None, Option(Group.SECOND_ORDER, "Ratio of the numbers of candidate solver iterates.", "1.3", "RATIO")
    ] = None
    preconditioner: Annotated[
        str | None,
        Option(
            Group.SECOND_ORDER,
            "Preconditioner: {choices}; fisher is Martens' diagonal, kfac has Kronecker factors.",
            "kfac; none with --paper",
            choices=("none", *PRECONDITIONERS),
        ),
    ] = None
    candidates: Annotated[
        str | None,
        Option(
            Group.SECOND_ORDER,
            "Candidate steps: iterates by the backtracking ratio, or the last one.",
            "kept",
            choices=CANDIDATES,
        ),
    ] = None
    line_search: Annotated[
        str | None,
        Option(
            Group.SECOND_ORDER,
            "Step length: the one with the lowest loss, or backtracking from 1.",
            "lowest; backtracking with --paper",
            choices=SEARCH_RULES,
        ),
    ] = None
    line_rows: Annotated[
        Rows | None,
        Option(
            Group.SECOND_ORDER,
            "Number of rows used to evaluate step lengths, or all.",
            "4096; all with --paper",
            "N|all",
            (ALL,),
        ),
    ] = None
    paper: Annotated[bool | None, Option(Group.SECOND_ORDER, "Use the paper's choices for all settings not given.")] = (
        None
    )
    learning_rate: Annotated[
        Positive | None,
        Option(Group.FIRST_ORDER, "Learning rate of a stochastic method.", "0.1; 0.03 for momentum, 0.001 for adam"),
    ] = None
    batch_rows: Annotated[
        Count | None,
        Option(Group.FIRST_ORDER, "Number of rows in a minibatch, over all partitions.", "64; 6144 for kfac"),
    ] = None
    momentum: Annotated[
        Share | None, Option(Group.FIRST_ORDER, "Momentum of a stochastic method.", "0; 0.9 for momentum and adam")
    ] = None
    record_every: Annotated[
        Count | None,
        Option(Group.FIRST_ORDER, "Number of steps in an iteration of kfac.", "an epoch"),
    ] = None
    history: Annotated[Count | None, Option(Group.FIRST_ORDER, "Number of past steps that lbfgs uses.", "10")] = None
    l2: Annotated[
        NotNegative,
        Option(Group.OBJECTIVE, "Coefficient of the penalty l2/2 · ‖weights‖².", callee=Callee.OBJECTIVE),
    ] = 0.0
    class_weights: Annotated[
        Literal["balanced"] | tuple[NotNegative, ...] | None,
        Option(
            Group.OBJECTIVE,
            "Weights of the classes in the loss: balanced (inverse to their numbers of rows), a number for each class, "
            "or a file of numbers.",
            "none",
            metavar="balanced|W,W,…|FILE",
            choices=("balanced",),
        ),
    ] = None
    validation_fraction: Annotated[
        Fraction | None,
        Option(
            Group.OBJECTIVE,
            "Share of the training rows, drawn by the seed, that is held out for validation where the store has no "
            "split for it.",
            "0.1 with --early-stopping, otherwise none",
        ),
    ] = None
    seed: Annotated[
        Natural, Option(Group.METHOD, "Seed for the initial parameters and for all samples.", callee=Callee.OPTIMIZER)
    ] = 0
    max_iterations: Annotated[
        Natural,
        Option(
            Group.LIMITS,
            "Maximum number of outer iterations (epochs of a stochastic method), those before a resume included.",
            callee=Callee.OPTIMIZER,
        ),
    ] = 30
    target_error: Annotated[
        Share | None,
        Option(Group.LIMITS, "Error rate on the training rows at which the run ends.", "none", callee=Callee.OPTIMIZER),
    ] = None
    target_rmse: Annotated[
        NotNegative | None,
        Option(Group.LIMITS, "RMSE on the training rows, in the target's unit, at which a regression ends.", "none"),
    ] = None
    early_stopping: Annotated[
        bool | None,
        Option(
            Group.LIMITS,
            "End when the loss over validation rows no longer improves. These are the store's split validation, or "
            "else a share of the training rows.",
            "--no-early-stopping",
        ),
    ] = None
    patience: Annotated[
        Count | None,
        Option(Group.LIMITS, "Number of iterations without an improvement after which early stopping ends.", "10"),
    ] = None
    min_improvement: Annotated[
        Share | None,
        Option(Group.LIMITS, "Smallest improvement that counts, as a share of the validation loss.", "0.0001"),
    ] = None
    time_limit_s: Annotated[
        Positive | None, Option(Group.LIMITS, "Run time after which no further iteration begins.", "none", "SECONDS")
    ] = None
    cluster: Annotated[
        str,
        Option(
            Group.PLACEMENT,
            "Cluster: none (this process), local, local:N, tcp://HOST:PORT, tls://HOST:PORT, mpi (of mpirun) or slurm "
            "(of srun).",
            metavar="WHERE",
        ),
    ] = "none"
    threads: Annotated[
        Count | None,
        Option(
            Group.PLACEMENT,
            "Number of threads of this process, or of each worker that it starts.",
            "one per processor; 1 per worker",
        ),
    ] = None
    memory: Annotated[
        str | None,
        Option(
            Group.PLACEMENT,
            "Memory of this process, or of each worker, for rows and primal passes, such as 2GiB.",
            "60 % of what it has",
            "SIZE",
        ),
    ] = None
    worker_timeout_s: Annotated[
        Silence,
        Option(
            Group.PLACEMENT,
            "Time without a sign of life in a round after which a worker is replaced and its partitions go to others.",
            metavar="SECONDS",
            callee=Callee.DASK_OBJECTIVE,
            argument="timeout_s",
        ),
    ] = 60.0
    fan_in: Annotated[
        Count | None,
        Option(
            Group.PLACEMENT,
            "Maximum number of workers contacted directly by the client and by each relaying worker.",
            "8",
            callee=Callee.DASK_OBJECTIVE,
        ),
    ] = None


def _options() -> dict[str, Option]:
    hints = get_type_hints(TrainSettings, include_extras=True)
    return {
        name: next(item for item in hints[name].__metadata__ if isinstance(item, Option))
        for name in TrainSettings.__struct_fields__
    }


OPTIONS = _options()
"""The description of each setting."""

CHANGEABLE = tuple(name for name, option in OPTIONS.items() if option.group.changeable)
"""Limits and placement: they may differ when a run is resumed."""

RENAMED = {"keep": "backtracking_ratio"}
"""New names of settings that earlier versions wrote under other names."""


def as_dict(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings that are not None in types that TOML and JSON have."""
    return {name: value for name, value in msgspec.to_builtins(settings).items() if value is not None}


def fixed(settings: TrainSettings) -> dict[str, Any]:
    """Return the settings that must not change within a run."""
    return {name: value for name, value in as_dict(settings).items() if name not in CHANGEABLE}


def digested(settings: TrainSettings) -> dict[str, Any]:
    """Return the fixed settings by their first names: a new name leaves earlier checkpoints valid."""
    first = {new: old for old, new in RENAMED.items()}
    return {first.get(name, name): value for name, value in fixed(settings).items()}


def arguments(settings: TrainSettings, callee: Callee) -> dict[str, Any]:
    """Return the settings that a function takes and that are not None, by the names of its arguments.

    The functions take None for ``"all"`` rows.
    """
    given = as_dict(settings)
    return {
        option.argument or name: None if given[name] == ALL else given[name]
        for name, option in OPTIONS.items()
        if name in given and option.goes_to(callee)
    }
