"""SIGTERM ends an operator that has hardly begun: at once, with exit code 0 and without a complaint."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from crontabber_operator.cli import main

CRONTABBER = Path(sys.executable).with_name("crontabber")
KUBECONFIG = """
{apiVersion: v1, kind: Config, current-context: nowhere,
 users: [{name: nobody, user: {token: none}}],
 clusters: [{name: nowhere, cluster: {server: "https://127.0.0.1:9"}}],
 contexts: [{name: nowhere, context: {cluster: nowhere, user: nobody}}]}
"""
KILLED_WHILE_IT_LOADS = """
import os, signal, sys, weakref
from crontabber_operator import cli

class Dying:
    pass

def load(name):
    # As in the import system: an exception that is raised here is printed and forgotten.
    dying = Dying()
    callback = weakref.ref(dying, lambda _: os.kill(os.getpid(), signal.SIGTERM))
    del dying
    raise AssertionError("it goes on")

cli.import_module = load
sys.exit(cli.main(["operator"]))
"""


def test_sigterm_while_the_program_loads() -> None:
    """As process 1 of a container it would not even notice, if it didn't listen."""
    ended = subprocess.run(
        [sys.executable, "-c", KILLED_WHILE_IT_LOADS], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")


def test_sigterm_while_the_api_server_is_waited_for(tmp_path: Path) -> None:
    """Its connection is closed; nothing is left to complain of."""
    kubeconfig = tmp_path / "config"
    kubeconfig.write_text(KUBECONFIG, encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if not key.startswith("CRONTABBER_")}
    with subprocess.Popen(
        [str(CRONTABBER), "operator", "--health=off", "--metrics=off"],
        env=environment | {"KUBECONFIG": str(kubeconfig)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as operator:
        assert operator.stdout is not None
        for line in operator.stdout:
            if "can't be reached yet" in line:
                operator.send_signal(signal.SIGTERM)
                break
        rest = operator.stdout.read()
        assert operator.wait(60) == 0
    assert "ERROR" not in rest, rest
    assert "Traceback" not in rest, rest


def test_other_commands_keep_the_usual_meaning_of_sigterm(capsys: pytest.CaptureFixture[str]) -> None:
    """Only the operator listens."""
    before = signal.getsignal(signal.SIGTERM)
    assert main(["crd"]) == 0
    assert signal.getsignal(signal.SIGTERM) == before
    assert "CustomResourceDefinition" in capsys.readouterr().out
