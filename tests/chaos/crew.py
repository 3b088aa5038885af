"""The operators of a run, each behind a proxy of its own; the first is started again when it ends, as by a kubelet."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import yaml

from tests.chaos.dice import Tally
from tests.chaos.proxy import Held, Proxy, ProxyThread, Strike
from tests.integration.operator_process import OperatorProcess

Wait = Callable[[float], bool]

MUTANTS = "tests.chaos.mutant_operator"
STRIKE_TIMEOUT_SECONDS = 20.0
TAIL_LINES = 15
LOOK_SECONDS = 0.2


class Berth:
    """The place of one operator: its proxy, its kubeconfig, and the process that is there now."""

    def __init__(self, place: Place, name: str, *, tally: Tally, rate: float = 0.0) -> None:
        """Open a proxy. `rate`: see Proxy."""
        self._place = place
        self.proxy = Proxy(place.kubeconfig, f"{place.seed} {name}", tally, rate=rate)
        self.process: OperatorProcess | None = None
        self.log = place.folder / f"operator-{name}.log"
        port = place.proxies.call(self.proxy.start())
        self._kubeconfig = place.folder / f"kubeconfig-{name}"
        self._kubeconfig.write_text(_led_to(place.kubeconfig, port), encoding="utf-8")

    def start(self, environment: Mapping[str, str] = {}) -> OperatorProcess:
        """Start an operator here."""
        self.process = OperatorProcess.start(
            self._kubeconfig,
            self.log,
            namespaces=[self._place.namespace],
            module=MUTANTS if self._place.mutant else self._place.module,
            environment={"MUTANT": self._place.mutant, **environment},
        )
        return self.process

    def kill(self) -> None:
        """Kill the one that is here."""
        if self.process is not None:
            self.process.kill()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the one that is here, if it runs."""
        if self.process is not None and self.process.runs:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.process.pid, number)

    def close(self) -> None:
        """Kill it and close the proxy."""
        self.kill()
        self._place.proxies.call(self.proxy.close())


@dataclass(frozen=True)
class Place:
    """Where operators work."""

    proxies: ProxyThread
    kubeconfig: Path
    folder: Path
    """For their logs."""
    namespace: str
    seed: str
    mutant: str = ""
    """See mutant_operator.py; empty: the operator as it is."""
    module: str = ""
    """What kopf runs instead of the operator as it is."""


class Crew:
    """Two berths; the first is always manned. Use as a context manager, in which `ProxyThread` runs."""

    def __init__(self, place: Place, *, tally: Tally, rate: float) -> None:
        """`rate`: see Proxy."""
        self._tally = tally
        self._stopped = threading.Event()
        self.berths = [Berth(place, name, tally=tally, rate=rate) for name in ("one", "two")]
        self._thread = threading.Thread(target=self._watch, name="crew", daemon=True)

    def __enter__(self) -> Self:
        """Start the first operator."""
        self.berths[0].start()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End all."""
        self._stopped.set()
        self._thread.join()
        for berth in self.berths:
            berth.close()

    def calm(self) -> None:
        """No more faults: one operator, whose words arrive."""
        for berth in self.berths:
            berth.proxy.rate = 0
            berth.proxy.strike = None
        self.berths[1].kill()
        self.berths[0].signal(signal.SIGCONT)

    def _watch(self) -> None:
        """Start the first operator again when it has ended."""
        first = self.berths[0]
        while not self._stopped.wait(LOOK_SECONDS):
            if first.process is not None and not first.process.runs:
                by_itself = first.process.exit_code != -signal.SIGKILL
                if by_itself:
                    told = first.process.log_tail().splitlines()[-TAIL_LINES:]
                    print("The operator ended by itself. Its last words:", *told, sep="\n  ", file=sys.stderr)
                self._tally.add(
                    "the operator ended by itself" if by_itself else "the operator was started again"
                )
                first.start()

    # --- What is done to them --------------------------------------------------------------------------------

    def kill(self) -> None:
        """Kill the first; it is started again."""
        self.berths[0].signal(signal.SIGKILL)

    def hang(self, wait: Wait, seconds: float) -> None:
        """Stop the first for a while."""
        self.berths[0].signal(signal.SIGSTOP)
        wait(seconds)
        self.berths[0].signal(signal.SIGCONT)

    def second(self, wait: Wait, seconds: float) -> None:
        """Have a second operator beside the first for a while, then kill one of them."""
        self.berths[1].start()
        wait(seconds)
        self.berths[1].kill()

    def kill_at_write(self, write: int, *, before: bool, wait: Wait) -> bool:
        """Kill the first operator at its n-th write after it started. False: it came to no such write."""
        first = self.berths[0]
        struck = threading.Event()

        async def strike() -> None:
            first.signal(signal.SIGKILL)
            struck.set()
            if before:
                raise ConnectionResetError  # it never arrives

        first.kill()
        self._arm(Strike(write, before, strike))
        return self._is_struck(struck, wait)

    def freeze(self, wait: Wait, seconds: float, *, before: bool) -> None:
        """Freeze the first operator in the middle of a write, which arrives (or is answered) when it is too late."""
        first = self.berths[0]
        held = Held()

        async def strike() -> None:
            first.signal(signal.SIGSTOP)
            await held.hold()

        self._arm(Strike(1, before, strike))
        try:
            if self._is_struck(held.struck, wait):
                self.berths[1].start()
                wait(seconds)
        finally:
            held.let_go()
            first.signal(signal.SIGCONT)
        wait(seconds / 4)
        self.berths[1].kill()

    def _arm(self, strike: Strike) -> None:
        self.berths[0].proxy.strike = strike

    def _is_struck(self, struck: threading.Event, wait: Wait) -> bool:
        for _ in range(int(STRIKE_TIMEOUT_SECONDS / LOOK_SECONDS)):
            if struck.is_set():
                return True
            if wait(LOOK_SECONDS):
                break
        self.berths[0].proxy.strike = None
        return struck.is_set()


def _led_to(kubeconfig: Path, port: int) -> str:
    """Return the kubeconfig with another server."""
    config = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    config["clusters"][0]["cluster"] = {"server": f"http://127.0.0.1:{port}"}
    text: str = yaml.safe_dump(config)
    return text
