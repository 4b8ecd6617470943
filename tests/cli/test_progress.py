import io
import os
import re
import signal
import threading
from types import SimpleNamespace

import pytest
from rich.console import Console
from rich.progress import Progress, TextColumn

from hfnumba.cli import progress, tables
from hfnumba.cli.bars import StackedBars
from hfnumba.metrics import ERROR
from hfnumba.run.config import settings_from
from hfnumba.stop import SIGNALS, StopSignals, block_signals

LINE = {
    "iteration": 2,
    "loss": 0.123456,
    "error": 0.25,
    "test_error": 0.5,
    "damping": 0.1,
    "rounds": 42,
    "elapsed_s": 75.0,
}


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.94, "9.9 s"), (9.96, "10 s"), (59.6, "1:00"), (187, "3:07"), (3723, "1:02:03")],
)
def test_durations(seconds, text):
    assert progress.duration(seconds) == text


def test_missing_numbers_are_dashes():
    assert tables.number(None) == ERROR.text(None) == "–"
    assert ERROR.text(0.0123) == "1.23 %"


def test_time_left_is_that_of_the_limit_that_comes_first(monkeypatch):
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.value)
    clock = progress.Clock()
    now.value = 105.0
    clock.begin(settings_from({"hidden": (), "max_iterations": 12}), {"iteration": 2})
    assert clock.left_s(2) is None
    now.value = 109.0
    assert clock.left_s(4) == pytest.approx(16.0)
    clock.begin(settings_from({"hidden": (), "max_iterations": 12, "time_limit_s": 20.0}), None)
    now.value = 110.0
    assert clock.left_s(1) == pytest.approx(10.0)
    now.value = 140.0
    assert clock.left_s(2) == 0.0


def test_plain_lines(capsys):
    report = progress.PlainReporter()
    report.begin(settings_from({"hidden": ()}), {"iteration": 1})
    report.iteration(LINE)
    out, err = capsys.readouterr()
    assert out == ""
    after, line = err.splitlines()
    assert after == "continuing after iteration 1"
    assert line.startswith("iteration 2, loss 0.1235, error 25.00 %, test error 50.00 %, damping 0.1, rounds 42, 1:15")


def test_the_bar_of_a_run():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=150)
    with Progress(TextColumn("{task.description}|{task.fields[text]}"), console=console) as bar:
        report = progress.BarReporter(bar)
        report.note("a [note] of 3")
        report.begin(settings_from({"hidden": (), "method": "gn-cg"}), None)
        report.iteration(LINE)
        bar.refresh()
        report.stopping("SIGINT")
        bar.refresh()
    shown = stream.getvalue()
    assert "a [note] of 3" in shown
    assert "gn-cg|2/30 · loss 0.1235 · error 25.00 % · test 50.00 % · " in shown
    assert " left · damping 0.1 · 42 rounds" in shown
    assert "gn-cg|stopping after this iteration; press Ctrl-C again to stop at once" in shown


@pytest.mark.parametrize("width", [60, 80, 200])
def test_the_bar_stays_on_a_narrow_terminal_and_no_number_is_torn(width):
    stream = io.StringIO()
    with StackedBars(console=Console(file=stream, force_terminal=True, width=width, color_system=None)) as bars:
        report = progress.BarReporter(bars)
        report.begin(settings_from({"hidden": (), "method": "hf-bicgstab"}), None)
        report.iteration(LINE)
        bars.refresh()
    shown = [line for line in re.sub(r"\x1b\[[^a-zA-Z]*[a-zA-Z]", "", stream.getvalue()).splitlines() if line.strip()]
    assert all(len(line.rstrip()) <= width for line in shown)
    last = max(k for k, line in enumerate(shown) if "hf-bicgstab" in line)
    assert "━" in shown[last] and "0:00:0" in shown[last]
    parts = ["2/30", "loss 0.1235", "error 25.00 %", "test 50.00 %", "damping 0.1", "42 rounds"]
    for part in parts:
        assert any(part in line for line in shown[last:])


def test_a_step_has_a_bar_of_its_own_until_it_is_done(monkeypatch):
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.value)
    stream = io.StringIO()
    with Progress(TextColumn("{task.description}|{task.fields[text]}"), console=Console(file=stream)) as bar:
        reporter = progress.BarReporter(bar)
        earlier = reporter.progress("Opening", "files")
        assert [(task.description, task.total) for task in bar.tasks] == [("Opening", None)]
        step = reporter.progress("Reading", "partitions")
        now.value = 110.0
        step(2, 12)
        earlier(1, 2)
        assert [(task.description, task.completed, task.total) for task in bar.tasks] == [("Reading", 2, 12)]
        assert bar.tasks[0].fields["text"] == "2 of 12 partitions, 0.2 a second, 50 s left"
        step(12, 12)
        step(13, 12)
        earlier(2, 2)
        assert not bar.tasks


def test_a_plain_step(monkeypatch, capsys):
    now = SimpleNamespace(value=100.0)
    monkeypatch.setattr(progress.time, "monotonic", lambda: now.value)
    step = progress.PlainReporter().progress("Reading", "partitions")
    now.value = 110.0
    step(2, 12)
    assert capsys.readouterr().err == "Reading: 2 of 12 partitions, 0.2 a second, 50 s left\n"


@pytest.mark.usefixtures("no_nohup")
@pytest.mark.parametrize("number", SIGNALS)
def test_the_first_signal_is_recorded_and_a_second_interrupt_raises(number):
    received = []
    with StopSignals(received.append) as stop:
        assert stop.received is None
        os.kill(os.getpid(), number)
        assert stop.received == number.name
        os.kill(os.getpid(), 15)
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), 2)
    assert received == [number.name]


@pytest.mark.usefixtures("no_nohup")
def test_nohup_holds_for_the_end_of_the_terminal_only():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with StopSignals(lambda name: None) as stop:
        os.kill(os.getpid(), signal.SIGHUP)
        assert stop.received is None
        os.kill(os.getpid(), signal.SIGTERM)
        assert stop.received == "SIGTERM"
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


def test_a_pending_signal_is_received_and_a_late_one_stays_pending():
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        block_signals()
        # To this thread, because other threads of this process do not block signals.
        signal.raise_signal(signal.SIGTERM)
        with StopSignals(lambda name: None) as stop:
            assert stop.received == "SIGTERM"
        signal.raise_signal(signal.SIGUSR1)
        assert signal.sigtimedwait(SIGNALS, 0).si_signo == signal.SIGUSR1
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def test_handlers_are_left_as_they_were_and_threads_do_without():
    before = [signal.getsignal(number) for number in SIGNALS]

    def enter():
        with StopSignals(print) as stop:
            entered.append(stop.received)

    entered = []
    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    enter()
    assert entered == [None, None]
    assert [signal.getsignal(number) for number in SIGNALS] == before
