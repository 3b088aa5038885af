"""Builds container images from Dockerfiles with buildah, where neither Docker nor a registry can be reached.

The base image is made of the machine's own Debian or Ubuntu packages (`base`), packages of Python come from where
the machine's pip takes them (`pip_settings`). Knows nothing of clusters.
"""
