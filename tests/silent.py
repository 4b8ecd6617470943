"""A reporter for runs by the Python interface."""


class Silent:
    """Shows nothing, and records all calls."""

    def __init__(self, on_iteration=lambda line: None):
        self.notes, self.lines, self.on_iteration, self.signals, self.steps = [], [], on_iteration, [], []

    def note(self, text):
        self.notes.append(text)

    def progress(self, what, unit):
        calls = []
        self.steps.append((what, calls))
        return lambda *call: calls.append((*call, unit))

    def begin(self, settings, line):
        self.began_after = None if line is None else line["iteration"]

    def iteration(self, line):
        self.lines.append(line)
        self.on_iteration(line)

    def stopping(self, signal_name):
        self.signals.append(signal_name)
