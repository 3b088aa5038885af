"""What happens to the cluster and to the operators, one thing after the other, drawn from the seed."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

from devcluster import Cluster
from devcluster.cluster import ClusterError
from devcluster.control import ControlError
from tests.chaos.crew import Crew
from tests.chaos.dice import Bag, Tally

GAP_SECONDS = (0.2, 1.5)


class Disturbance:
    """Disturbs, in a thread of its own between `begin` and `stop`; what was stopped is started again at the end.

    `scale` stretches all durations: 1 is the short form, about 5 that with minutes of everything.
    """

    def __init__(self, cluster: Cluster, crew: Crew, seed: str, tally: Tally, scale: float) -> None:
        """Take what is to be disturbed."""
        self._cluster = cluster
        self._crew = crew
        self._tally = tally
        self._scale = scale
        self._dice = random.Random(f"{seed} disturbance")
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="disturbance", daemon=True)
        self._acts: dict[str, Callable[[], None]] = {
            "the API server is killed and started": lambda: self._away("kube-apiserver", 1),
            "the API server hangs": lambda: self._hangs("kube-apiserver", 4),
            "etcd stalls": lambda: self._hangs("etcd", 4),
            "the controller manager is away": lambda: self._away("kube-controller-manager", 10),
            "the controller manager hangs": lambda: self._hangs("kube-controller-manager", 6),
            "the node loses its power": lambda: self._away("node", 4),
            "the operator is killed": self._crew.kill,
            "the operator hangs": lambda: self._crew.hang(self._wait, 5 * scale),
            "the operator is killed at its writes in turn": self._kill_in_turn,
            "two operators at once": lambda: self._crew.second(self._wait, 8 * scale),
            "an operator is frozen in a write, another takes over": self._freeze,
        }
        self._bag = Bag(f"{seed} disturbances", list(self._acts))
        self._turn = 0
        self.problem: BaseException | None = None

    @property
    def kinds(self) -> list[str]:
        """All that it does, as it is counted."""
        return list(self._acts)

    def begin(self) -> None:
        """Start."""
        self._thread.start()

    def stop(self) -> None:
        """Return when the disturbance that goes on is over. Raises what went wrong with it."""
        self._stopped.set()
        self._thread.join()
        if self.problem is not None:
            raise self.problem

    def _work(self) -> None:
        try:
            while not self._wait(self._dice.uniform(*GAP_SECONDS)):
                act = self._bag.take()
                self._tally.add(act)
                self._acts[act]()
        except (ClusterError, ControlError, OSError, AssertionError) as error:
            self.problem = error

    def _wait(self, seconds: float) -> bool:
        """Wait so long, or until all is to end. True: it is."""
        return self._stopped.wait(seconds)

    def _away(self, component: str, seconds: float) -> None:
        self._cluster.kill(component)
        self._wait(seconds * self._scale)
        self._cluster.start_component(component)

    def _hangs(self, component: str, seconds: float) -> None:
        self._cluster.pause(component)
        self._wait(seconds * self._scale)
        self._cluster.resume(component)

    def _kill_in_turn(self) -> None:
        """Kill the operator before and after its first write, its second, and so on, from where it was left."""
        for _ in range(4):
            write, after = divmod(self._turn, 2)
            self._turn += 1
            if not self._crew.kill_at_write(write + 1, before=not after, wait=self._wait):
                return
            self._tally.add(f"killed {'after' if after else 'before'} a write")

    def _freeze(self) -> None:
        before = self._dice.random() < 0.7
        self._crew.freeze(self._wait, 12 * self._scale, before=before)
