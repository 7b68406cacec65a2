# The hub, from the project's root:
#
#   docker build -f deploy/hub.Dockerfile -t holdfast-hub .
#
# BASE is a Debian 12 or later, or an image with Python 3.11 or later on one, called python3, such as python:3.13-slim.
# Nothing here is for one kind of processor. Why it is as it is: docs/decisions/0018-images-and-compose.md.
ARG BASE=debian:12.12-slim

# What the program needs of Debian.
FROM ${BASE} AS base
RUN missing= \
    && { command -v python3 >/dev/null || missing="$missing python3"; } \
    && { command -v curl >/dev/null || missing="$missing curl"; } \
    && { [ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"; } \
    && if [ -n "$missing" ]; then \
        apt-get update && apt-get install --yes --no-install-recommends $missing \
        && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*; \
    fi

FROM base AS build
RUN if ! python3 -c 'import ensurepip' 2>/dev/null; then \
        apt-get update && apt-get install --yes --no-install-recommends python3-venv; \
    fi \
    && python3 -m venv /build/tools && python3 -m venv --without-pip /opt/holdfast/libraries \
    # Its version stands in what it makes.
    && /build/tools/bin/pip install --no-cache-dir setuptools==80.9.0
WORKDIR /build/source

# First what the program stands on, at the versions that it is tested with; then, as a layer of its own, the program, so
# that an upgrade is a small download.
COPY pyproject.toml constraints.txt ./
RUN python3 -c "import tomllib; project = tomllib.load(open('pyproject.toml', 'rb'))['project']; \
print(*project['dependencies'], *project['optional-dependencies']['hub'], sep='\n')" >/build/requirements.txt \
    && /build/tools/bin/pip --python /opt/holdfast/libraries/bin/python3 install \
        --no-cache-dir --no-compile --only-binary :all: -c constraints.txt -r /build/requirements.txt

# The times are one for all, and what is compiled holds none: what is built twice is the same.
COPY LICENSE README.md ./
COPY broker broker
COPY hub hub
RUN /build/tools/bin/pip install --no-cache-dir --no-compile --no-deps --no-build-isolation --no-index \
        --target /opt/holdfast/program . \
    && rm /opt/holdfast/program/bin/edge-agent \
    && sed -i '1s|.*|#!/opt/holdfast/libraries/bin/python3|' /opt/holdfast/program/bin/edge-hub \
    && echo /opt/holdfast/program >"$(/opt/holdfast/libraries/bin/python3 -c \
        'import sysconfig; print(sysconfig.get_path("purelib"))')/holdfast.pth" \
    && python3 -m compileall -q --invalidation-mode unchecked-hash /opt/holdfast \
    && find /opt/holdfast -exec touch --no-dereference --date=2026-01-01T00:00:00Z {} +

FROM base
# One user for all images, with a number that volumes can rely on.
RUN echo 'holdfast:x:10001:10001::/app:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'holdfast:x:10001:' >>/etc/group \
    && mkdir -p /app /var/lib/holdfast /etc/holdfast/broker/mosquitto \
    && chown holdfast:holdfast /app /var/lib/holdfast /etc/holdfast/broker /etc/holdfast/broker/mosquitto \
    && if python3 -m pip --version >/dev/null 2>&1; then python3 -m pip uninstall --yes pip setuptools wheel; fi
COPY --from=build /opt/holdfast/libraries /opt/holdfast/libraries
COPY --from=build /opt/holdfast/program /opt/holdfast/program
RUN ln -s /opt/holdfast/program/bin/edge-hub /usr/local/bin/edge-hub
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Holdfast hub" \
    org.opencontainers.image.description="Sends tasks to workers at many sites, and keeps what they report." \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.vendor="Holdfast authors"

# It listens for the whole container, and still refuses to do so for anybody without a token unless HUB_ALLOW_ANONYMOUS
# is true.
ENV PYTHONDONTWRITEBYTECODE=1 \
    HUB_HTTP_HOST=0.0.0.0 \
    HUB_BROKER_URL=mqtt://broker:1883 \
    HUB_DATABASE_URL=sqlite:////var/lib/holdfast/hub.db
WORKDIR /app
USER 10001:10001
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=30s --retries=3 \
    CMD ["curl", "--fail", "--silent", "--show-error", "--max-time", "8", "http://127.0.0.1:8000/health"]
ENTRYPOINT ["edge-hub"]
CMD ["serve"]
