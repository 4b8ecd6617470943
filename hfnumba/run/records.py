"""Records of a run, the content of ``config.toml``: its settings, its network and its training data."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec

from hfnumba.network import Network
from hfnumba.run.settings import TrainSettings, digested
from hfnumba.store.columns import Column, feature_names
from hfnumba.store.layout import MAX_CONTEXT
from hfnumba.store.standardise import Standardisation

_PACKAGES = ("python", "hfnumba", "numpy", "scipy", "numba", "dask", "distributed", "zarr")


_RECORDED = ("network", "store")


class NetworkRecord(msgspec.Struct, frozen=True):
    """Description of a :class:`hfnumba.network.Network`."""

    sizes: tuple[int, ...]
    activation: str | tuple[str, ...]
    loss: str

    def network(self) -> Network:
        """Return the network.

        Raises
        ------
        UsageError
            If there is none of this description.
        """
        return Network(self.sizes, self.activation, self.loss)


class StoreRecord(msgspec.Struct, frozen=True):
    """Path, digest and task of the training data, and the transformation of their features.

    The path is a text of :func:`hfnumba.path_text.path_text`.
    Features are standardised ((x - origin - mean) / deviation, where there are means; most have no origin), spliced
    with ``context`` frames on each side, and scaled (x * scale + offset), in this order. ``class_weights`` are the
    weights of the classes in the loss; empty for none.

    ``columns`` are the columns of the table in the order of the features, ``classes`` the names of the classes in the
    order of their numbers, and ``targets`` those of a regression target; empty for data without names. Runs of earlier
    versions have none of these (UNSET), and ``columns`` is UNSET for tables that were built by earlier versions.

    Targets are standardised by ``target_mean`` and ``target_deviation``, and outputs of the network are brought back;
    both are UNSET for targets as they are.

    ``delimiter``, ``header``, ``comment``, ``decimal`` and ``missing_values`` say how the recipe of the training data
    reads CSV, where it says so.
    """

    path: str
    digest: str
    task: str
    scale: float
    offset: float
    context: int = 0
    mean: tuple[float, ...] = ()
    deviation: tuple[float, ...] = ()
    origin: tuple[float, ...] = ()
    class_weights: tuple[float, ...] = ()
    columns: tuple[Column, ...] | msgspec.UnsetType = msgspec.UNSET
    classes: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    targets: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET
    target_mean: tuple[float, ...] | msgspec.UnsetType = msgspec.UNSET
    target_deviation: tuple[float, ...] | msgspec.UnsetType = msgspec.UNSET
    delimiter: Annotated[str, msgspec.Meta(min_length=1, max_length=1)] | msgspec.UnsetType = msgspec.UNSET
    header: bool | msgspec.UnsetType = msgspec.UNSET
    comment: Annotated[str, msgspec.Meta(min_length=1)] | msgspec.UnsetType = msgspec.UNSET
    decimal: Literal[".", ","] | msgspec.UnsetType = msgspec.UNSET
    missing_values: tuple[str, ...] | msgspec.UnsetType = msgspec.UNSET

    @property
    def standardisation(self) -> Standardisation | None:
        """Mean and deviation of each feature; None if the training rows were not standardised."""
        return Standardisation(self.mean, self.deviation, self.origin) if self.mean else None

    @property
    def target_standardisation(self) -> Standardisation | None:
        """Mean and deviation of each target; None if the network was trained on targets as they are."""
        return Standardisation(self.target_mean or (), self.target_deviation or ()) if self.target_mean else None

    def __post_init__(self) -> None:
        """Refuse numbers with which no rows can be transformed or weighed."""
        numbers = (self.scale, self.offset, *self.mean, *self.deviation, *self.origin, *self.class_weights)
        if not all(map(math.isfinite, numbers)) or len(self.mean) != len(self.deviation) or self.context < 0:
            raise ValueError("expected finite numbers, as many means as deviations, and a context of at least 0")


class RunRecord(msgspec.Struct, frozen=True):
    """The content of ``config.toml``.

    Attributes
    ----------
    settings : TrainSettings
        Settings of the run.
    network : NetworkRecord
        Network that is trained.
    store : StoreRecord
        Training data, and how rows are transformed.
    optimizer : mapping of str to Any
        All settings of the method, those with default values too; empty for runs of earlier versions.
    """

    settings: TrainSettings
    network: NetworkRecord
    store: StoreRecord
    optimizer: Mapping[str, Any] = {}

    def __post_init__(self) -> None:
        data, network = self.store, self.network.network()
        width, left = divmod(network.n_features, 2 * data.context + 1)
        if not 0 <= data.context <= MAX_CONTEXT or left:
            raise ValueError(f"{network.n_features} inputs are no frames with {data.context} neighbours on each side")
        for what, given, expected in (
            ("means", data.mean, width),
            ("deviations", data.deviation, width),
            ("features of columns", feature_names(data.columns or ()), width),
            ("names of classes", data.classes, network.n_outputs),
            ("names of targets", data.targets, network.n_outputs),
            ("class weights", data.class_weights, network.n_outputs),
            ("means of targets", data.target_mean, network.n_outputs),
        ):
            if given and len(given) != expected:
                raise ValueError(f"expected {expected} {what} for this network, got {len(given)}")
        if data.task == "autoencode":
            network.require_autoencoder()
        # They check means and deviations.
        _ = data.standardisation, data.target_standardisation

    @property
    def settings_digest(self) -> str:
        """Digest of the settings that must not change within a run, and of the network."""
        content = [digested(self.settings), msgspec.to_builtins(self.network)]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
