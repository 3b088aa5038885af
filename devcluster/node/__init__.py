"""The node of a devcluster: it looks like a kubelet through the API and runs containers as local processes.

Run it as ``python -m devcluster.node``. Its rooms, from the core outwards:

* pure, no I/O and no clock: `expansion`, `pathmap`, `fields`, `environment`, `volumes` (what the files are),
  `status` (what the API is told), `restarts` (who is started again, and when);
* processes: `spawner` and `mounts` run in a small process of their own, without anything from PyPI, and fork
  every container; `processes` is this side of that wire; `local` makes a container out of a pod; `instant`
  finishes pods without processes;
* the API: `api` (HTTP, list and watch), `pods` (one worker a pod), `scheduling` (binds pods to the node),
  `presence` (Node and Lease), `events`, `logs` and `server` (what ``kubectl logs`` reads).

This package must import nothing of crontabber's and nothing of the rest of devcluster. This file stays empty
of code: the spawner imports the package without site-packages.
"""
