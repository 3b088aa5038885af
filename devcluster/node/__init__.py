"""The node of a devcluster: it looks like a kubelet through the API and runs containers as local processes.

Run it as ``python -m devcluster.node``. Its rooms, from the core outwards:

* pure, no I/O and no clock: `expansion`, `pathmap`, `fields`, `sources`, `environment`, `volumes` (what the
  files are), `status` (what the API is told), `restarts` (who is started again, and when);
* processes: `spawner` and `mounts` run in a small process of their own, without anything from PyPI, and fork
  every container; `processes` is this side of that wire;
* what runs a container, behind the seam `runtime`: `local` makes a process of it, with `images` and `storage`
  (the files on disk); `instant` finishes it without a process;
* a pod's life: `pods` (one worker a pod), `containers` (one worker a container), `probes`, `publishing` (the
  status, in few writes);
* the API: `api` (HTTP, list and watch), `scheduling` (binds pods to the node), `presence` (Node and Lease),
  `events`, `logs` and `server` (what ``kubectl logs`` reads);
* `node` puts them together, `__main__` is the command line.

This package must import nothing of crontabber's and nothing of the rest of devcluster. This file stays empty
of code: the spawner imports the package without site-packages.
"""
