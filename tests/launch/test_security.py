"""What other users of a machine can reach of a local cluster, and what they can put in its way."""

import errno
import http.client
import os
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import dask
import psutil
import pytest
from distributed import Client, LocalCluster

from hfnumba.errors import ClusterError
from hfnumba.launch import job, open_cluster
from hfnumba.launch.security import private_folder
from tests.limits import LIMIT_S, until


def listening():
    """TCP ports that this process and its children listen at, and paths of their sockets in folders."""
    ports, paths = set(), set()
    for process in (psutil.Process(), *psutil.Process().children(recursive=True)):
        for found in process.net_connections("all"):
            if found.family == socket.AF_UNIX and str(found.laddr).startswith("/"):
                paths.add(Path(found.laddr))
            elif found.family in (socket.AF_INET, socket.AF_INET6) and found.status == psutil.CONN_LISTEN:
                ports.add((found.laddr.ip, found.laddr.port))
    return ports, paths


@contextmanager
def observed(spec):
    """A cluster, and what its processes listen at: TCP ports, and sockets in folders."""
    before = listening()
    with open_cluster(spec) as placement:
        yield placement.client, lambda: [now - then for now, then in zip(listening(), before, strict=True)]


def speaks_http(place):
    with socket.create_connection(place, LIMIT_S) as connection:
        connection.sendall(b"GET /health HTTP/1.0\r\n\r\n")
        return connection.recv(4) == b"HTTP"


def test_only_the_owner_reaches_a_local_cluster():
    with observed("local:2") as (client, places):
        ports, paths = places()
        # A scheduler, and a worker and a nanny for each process.
        (folder,) = {path.parent for path in paths}
        assert len(paths) == 5
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert {stat.S_IMODE(path.stat().st_mode) for path in paths} == {0o600}
        # What is left shows pages; it takes no messages of Dask.
        assert {ip for ip, _ in ports} == {"127.0.0.1"}
        assert all(map(speaks_http, ports))
        # A worker process that comes later is reached in the same way.
        victim = min(client.run(os.getpid).values())
        os.kill(victim, signal.SIGKILL)

        def replaced():
            found = [pid for pid in client.run(os.getpid, on_error="return").values() if isinstance(pid, int)]
            return len(found) == 2 and victim not in found

        until(replaced)
        assert {path.parent for path in places()[1]} == {folder}
    assert not folder.exists()


PAGES = "/info/main/workers.html", "/json/counts.json", "/metrics", "/status", "/statics/css/base.css"


def page(place, name):
    """Status and bytes of a page."""
    connection = http.client.HTTPConnection(*place, timeout=LIMIT_S)
    try:
        connection.request("GET", name)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


@pytest.mark.parametrize("wanted", [None, "0", "1"])
def test_pages_that_other_users_could_read_are_off_unless_they_are_asked_for(monkeypatch, wanted):
    pytest.importorskip("bokeh")
    monkeypatch.delenv("HFNUMBA_DASHBOARD", raising=False)
    if wanted is not None:
        monkeypatch.setenv("HFNUMBA_DASHBOARD", wanted)
    with observed("local:1") as (_, places):
        ports, _ = places()
        assert {ip for ip, _ in ports} == {"127.0.0.1"}
        found = {(place, name): page(place, name)[0] for place in ports for name in PAGES}
        assert all(page(place, "/health") == (200, b"ok") for place in ports)
        assert any(status != 404 for status in found.values()) == (wanted == "1"), found


def test_speaking_http_tells_pages_from_servers_of_dask():
    with LocalCluster(n_workers=0, dashboard_address=None) as cluster:
        host, port = cluster.scheduler_address.removeprefix("tcp://").split(":")
        assert not speaks_http((host, int(port)))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_another_user_can_run_no_code():
    with observed("local:1") as (_, places):
        _, paths = places()
        child = os.fork()
        if child == 0:
            refused = 0
            try:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                for path in paths:
                    try:
                        socket.socket(socket.AF_UNIX).connect(str(path))
                    except PermissionError:
                        refused += 1
            finally:
                os._exit(0 if refused == len(paths) == 3 else 1)
        assert os.waitpid(child, 0)[1] == 0


PROGRAM = """
import sys
from hfnumba.launch import local
if __name__ == "__main__":
    with local(1) as client:
        print(client.submit(sum, [1, 2]).result())
        print(sys.path + next(iter(client.run(lambda: sys.path).values())))
"""


def test_no_module_is_taken_from_a_folder_of_another_user(tmp_path):
    """Dask's own folder has a name that everyone knows, and ``python -c`` looks into the current folder."""
    taken = tmp_path / "dask-scratch-space"
    taken.mkdir()
    taken.chmod(0o777)
    for name in ("multiprocessing", "pickle", "struct", "dask"):
        (tmp_path / f"{name}.py").write_text("open('marker', 'w')\n")
    (tmp_path / "program").mkdir()
    program = tmp_path / "program" / "program.py"
    program.write_text(PROGRAM)
    path = os.pathsep.join(filter(None, sys.path))
    done = subprocess.run(
        [sys.executable, str(program)],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": path, "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    total, path = done.stdout.splitlines()
    assert total == "3"
    assert "dask-scratch-space" in path and str(taken) not in path
    assert not (tmp_path / "marker").exists() and not list(tmp_path.glob("hfnumba-*"))
    assert done.stderr == ""


def test_the_environment_is_as_before_when_a_cluster_has_ended(monkeypatch):
    for value in (None, "0"):
        if value is None:
            monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
        else:
            monkeypatch.setenv("PYTHONSAFEPATH", value)
        with private_folder() as folder:
            assert os.environ["PYTHONSAFEPATH"] == "1"
            assert dask.config.get("temporary-directory") == folder
            assert stat.S_IMODE(Path(folder).stat().st_mode) == 0o700
        assert os.environ.get("PYTHONSAFEPATH") == value
        assert dask.config.get("temporary-directory", None) != folder
        assert not Path(folder).exists()


def test_ranks_of_a_job_have_private_folders_too(monkeypatch):
    dask_mpi = pytest.importorskip("dask_mpi", reason="dask-mpi is missing in this environment; install hfnumba[mpi]")
    seen = {}

    def initialize(**_):
        seen.update(folder=Path(dask.config.get("temporary-directory")), safe=os.environ["PYTHONSAFEPATH"])
        seen["mode"] = stat.S_IMODE(seen["folder"].stat().st_mode)

    monkeypatch.setattr(dask_mpi, "initialize", initialize)
    job._form(SimpleNamespace(rank=2, size=3, one_host=False, n_here=1), 1, encrypted=False, timeout_s=60.0)
    assert (seen["safe"], seen["mode"]) == ("1", 0o700)
    assert not seen["folder"].exists()


@pytest.mark.parametrize("name", ["x" * 100, "a:b", os.fsdecode(b"w\xff"), "none"])
def test_a_place_that_has_no_sockets_is_not_used(tmp_path, monkeypatch, name):
    if name != "none":
        (tmp_path / name).mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / name))
    with private_folder() as folder:
        assert folder.startswith("/tmp/hfnumba-")


def test_no_place_for_sockets(monkeypatch):
    class NoSockets(socket.socket):
        def bind(self, address):
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))

    monkeypatch.setattr(socket, "socket", NoSockets)
    with pytest.raises(ClusterError, match=r"no folder .* has sockets \(.*Operation not supported\); .* TMPDIR"):
        private_folder().__enter__()


def test_a_client_that_is_told_to_encrypt_takes_these_connections():
    with dask.config.set({"distributed.comm.require-encryption": True}), open_cluster("local:1") as placement:
        address = placement.client.scheduler.address
        with Client(address, set_as_default=False) as other:
            assert other.submit(sum, [1, 2]).result() == 3
