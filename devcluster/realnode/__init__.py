"""A node of real containers (Linux, root): kubelet, containerd and kube-proxy in namespaces of their own.

The node is like a machine of its own: it has its own processes, mounts and network, and is joined to this one
by a virtual cable. So the kernel itself takes all of it away when it ends, however it ends, and nothing of it
is seen from outside: no mount, no bridge, no packet filter rule, nothing in /run, /var/lib or /var/log.
What stays is only files in the cluster's own folder, and empty cgroups (`leftovers`).

`__main__` is the part outside: the cable, the way to the API server, the end. `inside` is process 1 of the
node. What both agree on is in `configuration`; what must be installed, in `prerequisites`.
"""
