# The operator's image.
#
#   docker build -t crontabber-operator:$(cat VERSION) --build-arg VERSION=$(cat VERSION) .
#
# BASE is the one place that names what this is built on: any image with Python 3.11 or later as `python3`, with
# venv. A release is built on exactly one digest: the release workflow looks up the tag's digest once, gives it here
# (name:tag@sha256:…), builds every platform from it and writes it into the label base.digest.
ARG BASE=python:3.13-slim-bookworm

# --- Build: pip and the build tools stay in here ----------------------------------------------------------
FROM ${BASE} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src

# One environment with pip, to install with; one without, which becomes the image's.
RUN python3 -m venv /tools && python3 -m venv --without-pip /opt/crontabber

# Only what the lock files name, each file checked by its hash, and nothing that has to be compiled. Bytecode is made
# here, once and for good, but not for the API client's thousands of models, which the operator does not import.
COPY requirements.lock requirements-dev.lock ./
RUN /tools/bin/pip --python /opt/crontabber/bin/python install --no-compile --only-binary :all: \
      --require-hashes -r requirements.lock \
 && awk '/^setuptools==/ {on = 1} on {print} on && !/\\$/ {exit}' requirements-dev.lock > build.lock \
 && /tools/bin/pip install --require-hashes -r build.lock

COPY pyproject.toml VERSION README.md LICENSE ./
COPY operator operator
RUN /tools/bin/pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
 && /tools/bin/pip --python /opt/crontabber/bin/python install --no-compile --no-deps --no-index dist/*.whl \
 && rm -f /opt/crontabber/bin/*ctivate* \
 && python3 -m compileall -q --invalidation-mode unchecked-hash -x 'kubernetes/.*(models|api)/' /opt/crontabber

# --- The image --------------------------------------------------------------------------------------------
FROM ${BASE}
ARG BASE
ARG VERSION=dev
LABEL org.opencontainers.image.title="crontabber-operator" \
      org.opencontainers.image.description="Crontabber for Kubernetes: Django management commands on schedule, with every missed slot run" \
      org.opencontainers.image.licenses="MPL-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.base.name="${BASE}"

COPY --from=build /opt/crontabber /opt/crontabber
# An empty PYTHONTZPATH: time zones are those of the locked tzdata package, whatever the base has.
ENV PATH=/opt/crontabber/bin:${PATH} PYTHONTZPATH="" PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 PYTHONSAFEPATH=1

# No pip is left in what runs. The user has a name for those who look, and no home and no shell. Slim bases come
# without the standard library's bytecode, and a read-only file system can't be given it later: what the operator
# imports is compiled now.
RUN rm -rf /usr/local/bin/pip* /usr/local/lib/python3*/site-packages/pip* /usr/local/lib/python3*/ensurepip \
      /usr/lib/python3*/ensurepip /usr/share/python-wheels /usr/lib/python3/dist-packages/pip* \
 && echo 'crontabber:x:10101:10101::/nonexistent:/usr/sbin/nologin' >> /etc/passwd \
 && echo 'crontabber:x:10101:' >> /etc/group \
 && env -u PYTHONDONTWRITEBYTECODE python -c 'import crontabber_operator.handlers, crontabber_operator.serve'

# A number, so that runAsNonRoot can be checked. Signals need no init: the operator ends at SIGTERM and has no
# child processes.
USER 10101:10101
WORKDIR /
ENTRYPOINT ["crontabber"]
CMD ["operator"]
