# Junebug in a container, beside a Redis and a RabbitMQ of their own: compose.yaml. docs/operations.md has the rest.
#
#   docker build -t junebug .
#   docker build -t junebug --build-arg EXTRAS=[sentry] .

ARG PYTHON=3.11

# --- a wheel, and a virtualenv with it and the versions that requirements.txt pins
FROM python:${PYTHON}-slim-bookworm AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
RUN python -m venv /opt/junebug
COPY requirements.txt ./
RUN /opt/junebug/bin/pip install --requirement requirements.txt
COPY LICENSE README.md pyproject.toml setup.cfg setup.py ./
COPY clients/python/junebug_client clients/python/junebug_client
COPY junebug junebug
ARG EXTRAS=
RUN pip wheel --no-deps --wheel-dir /wheel . \
    && /opt/junebug/bin/pip install --constraint requirements.txt "$(echo /wheel/junebug-*.whl)${EXTRAS}" \
    && /opt/junebug/bin/pip uninstall --yes --quiet pip setuptools

# --- what runs
FROM python:${PYTHON}-slim-bookworm
RUN apt-get update \
    && apt-get install --yes --no-install-recommends tini \
    && rm -rf /var/lib/apt/lists/* \
    && useradd --system --uid 10001 --home-dir /var/lib/junebug --shell /usr/sbin/nologin junebug \
    && install --directory --owner=junebug --group=junebug --mode=0750 /var/lib/junebug /var/log/junebug
COPY --from=build /opt/junebug /opt/junebug
ENV PATH=/opt/junebug/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    JUNEBUG_INTERFACE=0.0.0.0 \
    JUNEBUG_PORT=8080 \
    JUNEBUG_DATA_DIR=/var/lib/junebug \
    JUNEBUG_LOGGING_PATH=/var/log/junebug
USER junebug
WORKDIR /var/lib/junebug
VOLUME ["/var/lib/junebug", "/var/log/junebug"]
EXPOSE 8080
STOPSIGNAL SIGTERM
# not /health: a Junebug whose Redis or RabbitMQ is away reconnects by itself, and must not be restarted for that
HEALTHCHECK --interval=10s --timeout=5s --start-period=60s --retries=3 \
    CMD ["python", "-c", "import os, urllib.request as u; u.urlopen('http://127.0.0.1:%s/health/live' % os.environ['JUNEBUG_PORT'], timeout=4)"]
# tini is process 1: it passes signals on, and reaps what nobody else does
ENTRYPOINT ["tini", "--"]
CMD ["jb"]
