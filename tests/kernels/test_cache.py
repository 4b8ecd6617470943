"""The cache of compiled kernels: private, compiled once, and harmless when it is damaged or cannot be written."""

import errno
import fcntl
import os
import shutil
import stat
import subprocess
import sys
import tempfile

import numba
import numpy as np
import pytest
from filelock import FileLock
from numba.core.caching import IndexDataCacheFile

from hfnumba.engine import ArrayObjective
from hfnumba.errors import HfnumbaError
from hfnumba.kernels import cache
from hfnumba.network import Network
from tests.limits import LIMIT_S
from tests.silent import Silent

WARM_UP = """
import sys
import numba
from hfnumba.kernels import cache, sums
if sys.argv[1:]:
    cache._exercise = sums.exercise
said = []
cache.warm_up(said.append)
print(len(said), numba.config.CACHE_DIR)
"""


def warm_up(folder, *few):
    """Messages of a new process that needs all kernels (or only a few of them), and the cache it used."""
    environment = {**os.environ, "HFNUMBA_CACHE_DIR": str(folder)}
    command = [sys.executable, "-c", WARM_UP, *few]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=True)
    said, used = done.stdout.split()
    return int(said), used


def test_a_folder_that_others_may_write_is_not_private(tmp_path):
    assert cache._fault(tmp_path / "new") is None
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
    (tmp_path / "open").mkdir()
    for mode in (0o777, 0o775):
        (tmp_path / "open").chmod(mode)
        assert "others can write there" in cache._fault(tmp_path / "open")
    (tmp_path / "link").symlink_to(tmp_path / "new")
    assert "a link" in cache._fault(tmp_path / "link")
    (tmp_path / "file").touch()
    assert "cannot be made" in cache._fault(tmp_path / "file")


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """Folders of caches other than those of this process; they would be filled by one kernel."""
    before = numba.config.CACHE_DIR
    monkeypatch.setattr(cache, "_local_folders", lambda: (str(tmp_path / "var"), str(tmp_path / "tmp")))
    monkeypatch.setattr(cache, "_notes", {})
    monkeypatch.setattr(cache, "_exercise", lambda: None)
    yield monkeypatch
    numba.config.CACHE_DIR = before


def test_a_cache_that_others_may_write_is_named_once_and_another_one_serves(elsewhere, tmp_path):
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o775)
    elsewhere.setenv("HFNUMBA_CACHE_DIR", str(tmp_path / "open"))
    # The same for each process, so that only the first compiles.
    assert cache.configure() == cache.configure()
    assert cache.folder().is_relative_to(tmp_path / "var")
    said = []
    cache.warm_up(said.append)
    assert said[0].startswith(f"HFNUMBA_CACHE_DIR={tmp_path}/open is not used for compiled kernels: others can write")
    assert said[1].startswith("compiling the kernels")
    cache.warm_up(said.append)
    assert len(said) == 2


def test_a_cache_whose_file_system_has_no_locks_is_not_used(elsewhere, tmp_path):
    def flock(*_):
        raise OSError(errno.ENOSYS, "Function not implemented")

    elsewhere.setenv("HFNUMBA_CACHE_DIR", str(tmp_path / "cluster"))
    elsewhere.setattr(fcntl, "flock", flock)
    elsewhere.setattr(tempfile, "tempdir", str(tmp_path))
    # A fresh folder: nobody waits for a lock in it.
    assert cache.configure() != cache.configure()
    assert cache._notes["chosen"].endswith("files there cannot be locked (Function not implemented)")


def test_where_no_folder_can_be_written_one_is_asked_for(elsewhere, tmp_path):
    """As in a container that is read-only; a folder that is named serves, though there is none for other files."""

    def unusable(*_, **__):
        raise FileNotFoundError(errno.ENOENT, "No usable temporary directory found")

    elsewhere.delenv("HFNUMBA_CACHE_DIR", raising=False)
    elsewhere.setattr(tempfile, "gettempdir", unusable)
    elsewhere.setattr(tempfile, "mkdtemp", unusable)
    (tmp_path / "file").touch()
    elsewhere.setattr(cache, "_local_folders", lambda: (str(tmp_path / "file"),))
    with pytest.raises(HfnumbaError, match=r"file/hfnumba-\d+: it cannot be made .*; name one .* HFNUMBA_CACHE_DIR"):
        cache.configure()
    elsewhere.undo()
    elsewhere.setattr(tempfile, "gettempdir", unusable)
    assert cache._local_folders() == ("/var/tmp",)


def test_a_full_disk_under_the_cache_costs_time_only_and_is_said_once(elsewhere, tmp_path, caplog):
    elsewhere.setenv("HFNUMBA_CACHE_DIR", str(tmp_path / "full"))
    cache.configure()

    def full(*_):
        raise OSError(28, "No space left on device")

    file = IndexDataCacheFile(str(cache.folder()), "f", 1.0)
    file._save_data = full
    elsewhere.setattr(cache, "_exercise", lambda: file.save("key", "code"))
    said = []
    cache.warm_up(said.append)
    assert said[1:] == [
        f"compiled kernels cannot be saved in {cache.folder()} (No space left on device); each process compiles"
    ]
    assert not (cache.folder() / cache._READY).exists(), "not all is there"
    # This process has compiled them all the same.
    cache.compile_once()
    assert not caplog.messages
    del file._save_data
    cache.warm_up(said.append)
    assert len(said) == 3 and (cache.folder() / cache._READY).exists()
    assert cache._is_sound(cache.folder())


def test_an_objective_says_once_that_it_compiles(elsewhere, tmp_path, caplog):
    elsewhere.setenv("HFNUMBA_CACHE_DIR", str(tmp_path / "new"))
    cache.configure()
    elsewhere.setattr(cache, "_exercise", lambda: None)
    for _ in range(2):
        ArrayObjective(Network([2, 2]), np.ones((4, 2)), [0, 1, 0, 1]).close()
    assert caplog.messages == [cache.COMPILING]
    # To stderr, unless the program has handlers of its own.
    program = "from hfnumba.kernels import cache; cache._exercise = lambda: None; cache.compile_once()"
    environment = os.environ | {"HFNUMBA_CACHE_DIR": str(tmp_path / "another")}
    done = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=True
    )
    assert (done.stdout, done.stderr) == ("", f"{cache.COMPILING}\n")


def test_compilation_is_a_step_of_a_reporter(elsewhere, tmp_path):
    elsewhere.setenv("HFNUMBA_CACHE_DIR", str(tmp_path / "new"))
    cache.configure()
    elsewhere.setattr(cache, "_exercise", lambda: None)
    reporter = Silent()
    for _ in range(2):
        cache.warm_up(reporter.note, reporter.progress)
    assert reporter.notes == [cache.COMPILING] and reporter.steps == [("Compiling", [(1, 1, "steps")])]


def test_the_fingerprint_follows_the_sources_and_where_they_are(monkeypatch, tmp_path):
    found = [cache._fingerprint()]
    for name, text in (("a", "x = 1"), ("a", "x = 2"), ("b", "x = 2")):
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "passes.py").write_text(text)
        monkeypatch.setattr(cache, "__file__", str(tmp_path / name / "cache.py"))
        found += [cache._fingerprint(), cache._fingerprint()]
    assert len(set(found)) == 4


def compiled(folder):
    """Each file of machine code and when it was written."""
    return {path: path.stat().st_mtime_ns for path in folder.rglob("*.nbc")}


@pytest.mark.slow
def test_no_kernel_is_compiled_that_another_process_has_saved(tmp_path):
    # A copy, since other tests add signatures. Compiling all kernels takes most of a minute, and has been done.
    cache.warm_up()
    with FileLock(cache.folder() / "save"):
        shutil.copytree(cache.folder(), tmp_path / "cache" / cache.folder().name)
    written = compiled(tmp_path / "cache")
    assert len(written) > 20
    assert warm_up(tmp_path / "cache") == (0, str(tmp_path / "cache" / cache.folder().name))
    assert compiled(tmp_path / "cache") == written


@pytest.mark.slow
def test_compiled_once_and_again_after_damage(tmp_path):
    folder = tmp_path / "cache"
    said, used = warm_up(folder, "few")
    assert said == 1
    assert used.startswith(str(folder))
    written = compiled(folder)
    assert written
    assert warm_up(folder, "few") == (0, used)
    assert compiled(folder) == written
    for pattern, damage in (("*.nbc", b"short"), ("*.nbi", b""), ("*.nbi", b"\x80\x05junk")):
        victim = sorted(folder.rglob(pattern))[0]
        victim.write_bytes(damage)
        assert warm_up(folder, "few") == (1, used)
    assert warm_up(folder, "few") == (0, used)


SAVE = """
import sys, time
from hfnumba.kernels import cache
from numba.core.caching import IndexDataCacheFile
file = IndexDataCacheFile(str(cache.folder()), "f", 1.0)
load = file._load_index
file._load_index = lambda: (load(), time.sleep(0.3))[0]
file.save(sys.argv[1], sys.argv[1])
"""


def test_two_processes_that_save_at_once_do_not_mix_their_code(tmp_path):
    environment = os.environ | {"HFNUMBA_CACHE_DIR": str(tmp_path / "cache")}
    words = [sys.executable, "-c", SAVE]
    processes = [subprocess.Popen([*words, key], env=environment) for key in ("a", "b", "c")]
    assert [process.wait() for process in processes] == [0, 0, 0]
    (folder,) = (tmp_path / "cache").iterdir()
    saved = IndexDataCacheFile(str(folder), "f", 1.0)
    assert [saved.load(key) for key in ("a", "b", "c")] == ["a", "b", "c"]
