"""Constants of the model, and iterations to validate it; counts and bytes, never seconds."""

import json
import os
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
from click.testing import CliRunner

from hfnumba.bench import emulation, scaling
from hfnumba.bench.model import KINDS, Constants, Rate, Workload, exchanges
from hfnumba.bench.remote import remote_workers
from hfnumba.cli import main
from hfnumba.engine.local import LocalEngine
from hfnumba.engine.rows import ArraySource
from hfnumba.network import Network

NETWORK = Network([6, 8, 4])
RATES = dict.fromkeys(KINDS, Rate(0.0, 0.0, 0.0))
FREE = dict.fromkeys(("round_s", "message_s", "send_s_per_byte", "receive_s_per_byte", "add_s_per_byte"), 0.0)
CONSTANTS = Constants(**RATES, **FREE, client_s=0.0, scheduler_share=0.0)
WORK = Workload(NETWORK.n_params, 400, 100, 5, 3, 4, 4)


class HereClient:
    def run_on_scheduler(self, function):
        return function()


@pytest.fixture
def here(monkeypatch):
    """Rounds in this process; the counts do not depend on processes."""
    for module in (scaling, emulation):
        monkeypatch.setattr(module, "remote_engine", lambda problem, client, fan_in: LocalEngine(problem, 1))
    return HereClient()


def source(rows=400):
    rng = np.random.default_rng(0)
    return ArraySource.of(rng.standard_normal((rows, 6), np.float32), rng.integers(0, 4, rows), 4, 1.0, 0.0)


def nbytes_of(work):
    return sum(e.count * (e.nbytes_out + e.nbytes_in) for e in exchanges(work))


def test_the_rounds_and_bytes_of_the_model_are_those_of_the_optimiser(here):
    found = emulation.run_iterations(NETWORK, source(), here, 100)
    work = replace(WORK, n_products=found["n_products"], n_candidates=found["n_candidates"], n_alphas=found["n_alphas"])
    assert found["nbytes"] == nbytes_of(work)
    counted = dict.fromkeys(found["rounds"], 0)
    for exchange in exchanges(work):
        counted[exchange.part] += exchange.count
    assert counted == found["rounds"]
    assert found["seconds"]["iteration"] > sum(found["seconds"][part] for part in found["rounds"])


def test_waiting_workers_are_asked_the_same_rounds_and_bytes(here):
    found = emulation.emulate(NETWORK, here, CONSTANTS, WORK)
    assert found["nbytes"] == nbytes_of(WORK)
    assert found["rounds"] == {"gradient": 1, "krylov": 6, "line_search": 1}


def test_a_wait_is_as_long_as_modelled(here):
    constants = replace(CONSTANTS, gradient=Rate(1e-4, 1e-3, 2e-3), line=Rate(1e-5, 0.0, 1e-3))
    seconds = emulation.emulate(NETWORK, here, constants, WORK)["seconds"]
    # A sleep is never shorter than requested.
    assert seconds["gradient"] >= 400e-4 + 4e-3 + 2e-3
    assert seconds["line_search"] >= 4 * (400e-5 + 1e-3)


def test_rates_are_solved_from_three_sizes():
    rate = Rate(2e-4, 3e-3, 5e-3)
    taken = [rate.seconds(16, 1), rate.seconds(1024, 1), rate.seconds(64, 4)]
    found = scaling._solved(16, 1024, 4, taken, 1)
    assert (found.row_s, found.partition_s, found.worker_s) == pytest.approx((2e-4, 3e-3, 5e-3))


def test_rates_of_all_evaluations_are_measured():
    rates = scaling.measure_rates(NETWORK, source(), points=3, repeats=2)
    assert set(rates) == set(KINDS)
    assert all(min(rate.row_s, rate.partition_s, rate.worker_s) >= 0 for rate in rates.values())


def test_constants_of_a_round_are_found_again():
    known = {"round_s": 1e-3, "message_s": 5e-4, "send_s_per_byte": 4e-10, "receive_s_per_byte": 9e-10}
    found = [
        {"workers": p, "out": out, "in": back, "seconds": 1e-3 + p * (5e-4 + 4e-10 * out + (9e-10 + 1e-10) * back)}
        for p in (1, 2, 4)
        for out, back in ((4, 4), (7_000_000, 4), (4, 7_000_000))
    ]
    assert scaling.fit_rounds(found, 1e-10) == pytest.approx(known | {"add_s_per_byte": 1e-10})


def test_the_command_prints_a_line_for_each_number_of_workers(here, monkeypatch):
    @contextmanager
    def remote(n_workers, n_processes):
        yield here

    monkeypatch.setattr(emulation, "remote_workers", remote)
    monkeypatch.setattr(emulation, "NETWORKS", {"C": (6, 8, 4)})
    monkeypatch.setattr(emulation, "_ROWS", 2048)
    arguments = ["bench", "scaling", "--json", "--workers", "2,4", "--rows", "2048", "--repeats", "1"]
    done = CliRunner().invoke(main, arguments, catch_exceptions=False)
    lines = [json.loads(text) for text in done.stdout.splitlines()]
    assert [line["workers"] for line in lines] == [2, 4]
    assert all(line["ratio"] == pytest.approx(line["modelled_s"] / line["waited_s"]) for line in lines)


@pytest.mark.slow
def test_many_workers_in_few_processes_answer_over_the_network():
    with remote_workers(5, 2) as client:
        assert len(client.scheduler_info(n_workers=-1)["workers"]) == 5
        # A terminal sends Ctrl-C to the process group of this process.
        groups = [*client.run(os.getpgrp).values(), client.run_on_scheduler(os.getpgrp)]
        assert len(groups) == 6 and os.getpgrp() not in groups
        engine = scaling.remote_engine(scaling.problem_of(NETWORK, scaling.NoRows(10, 5)), client, scaling.STAR)
        assert engine.sharing() == (0, 5)
        engine.close()
        rows = scaling.measure_rounds(client, 5, 1000, 2)
        assert [(r["out"], r["in"]) for r in rows] == [(4, 4), (4000, 4), (4, 4000)]
        found = emulation.emulate(NETWORK, client, CONSTANTS, replace(WORK, n_partitions=5))
        assert found["nbytes"] == nbytes_of(WORK)
        assert found["rounds"] == {"gradient": 1, "krylov": 6, "line_search": 1}
