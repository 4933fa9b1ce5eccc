"""A target is held by one at a time, and never after its holder is gone."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bridge.errors import Busy
from bridge.store import Store

HOLDER = """
import sys, time
from bridge.store import Store
with Store.open(sys.argv[1]) as store, store.exclusive("ls:project/7"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_target_is_held_by_one_process(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'x.db'}"
    with (
        Store.open(url) as store,
        subprocess.Popen([sys.executable, "-c", HOLDER, url], stdout=subprocess.PIPE, text=True) as holder,
    ):
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(Busy, match="another process is working on ls:project/7"), store.exclusive("ls:project/7"):
            pytest.fail("two hold it")
        with store.exclusive("ls:project/8"):
            pass
        holder.send_signal(signal.SIGKILL)
        with store.exclusive("ls:project/7", wait_s=10):
            pass


def test_two_threads_of_one_process_are_two(store: Store) -> None:
    with store.exclusive("a"):
        with pytest.raises(Busy), store.exclusive("a", wait_s=0.2):
            pytest.fail("two hold it")
        with store.exclusive("b"):
            pass
    with store.exclusive("a"):
        pass


def test_it_is_free_again_after_an_error(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.exclusive("a"):
        raise ZeroDivisionError
    with store.exclusive("a"):
        pass
