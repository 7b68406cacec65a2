#!/bin/sh
# `edge-agent` in the agent's image: the program, as the user `holdfast` and never as root. Root, which a container begins
# as unless it is told otherwise, is used for one thing only: the group of the Docker Engine's socket, which has another
# number on each host, is taken along where there is a socket. All else of root is given up before the program starts.
set -eu

program=/opt/holdfast/program/bin/edge-agent
socket=/var/run/docker.sock

if [ "$(id -u)" -ne 0 ]; then
    exec "$program" "$@"
fi

groups=$(id -g holdfast)
if [ -S "$socket" ]; then
    groups=$groups,$(stat -c %g "$socket")
fi
export HOME=/app
exec setpriv --reuid holdfast --regid holdfast --groups "$groups" --inh-caps=-all --no-new-privs -- "$program" "$@"
