# Mosquitto as Debian has it, with its dynamic security plugin where every processor's Debian has it, from the project's root:
#
#   docker build -f deploy/broker.Dockerfile -t holdfast-broker .
#
# BASE is a Debian 12 or later.
ARG BASE=debian:12.12-slim

FROM ${BASE}
RUN if [ ! -x /usr/sbin/mosquitto ] || [ ! -x /usr/bin/mosquitto_pub ]; then \
        apt-get update && apt-get install --yes --no-install-recommends mosquitto mosquitto-clients \
        && rm -rf /var/lib/apt/lists/* /var/cache/* /var/log/*; \
    fi
# One user for all images, with a number that volumes can rely on.
RUN echo 'holdfast:x:10001:10001::/var/lib/mosquitto:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'holdfast:x:10001:' >>/etc/group \
    && mkdir -p /var/lib/mosquitto /etc/holdfast/broker/mosquitto \
    && chown holdfast:holdfast /var/lib/mosquitto /etc/holdfast/broker/mosquitto \
    && ln -s "$(find /usr/lib -name mosquitto_dynamic_security.so)" /usr/lib/mosquitto_dynamic_security.so
COPY config/mosquitto /etc/mosquitto/holdfast
COPY deploy/broker-health.sh /usr/local/bin/broker-health
RUN chmod 755 /usr/local/bin/broker-health && chmod -R u=rwX,go=rX /etc/mosquitto/holdfast
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Holdfast broker" \
    org.opencontainers.image.description="Mosquitto, with Holdfast's configurations." \
    org.opencontainers.image.version="$VERSION" \
    org.opencontainers.image.revision="$REVISION" \
    org.opencontainers.image.licenses="Apache-2.0" \
    org.opencontainers.image.vendor="Holdfast authors"

USER 10001:10001
EXPOSE 1883 8883
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=10s --retries=3 CMD ["broker-health"]
# As many files as the engine lets it have: an engine may begin with 1,024, and each worker has two connections.
ENTRYPOINT ["sh", "-c", "ulimit -n $(ulimit -H -n) && exec mosquitto \"$@\"", "mosquitto"]
CMD ["-c", "/etc/mosquitto/holdfast/mosquitto.conf"]
