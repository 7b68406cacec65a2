#!/bin/sh
# Tells whether the broker answers, for the image's health check. A refusal is an answer: where it knows no anonymous
# client it says "not authorised", and mosquitto_pub ends with 5.
set -eu

if [ "$#" -eq 0 ]; then
    set -- -h 127.0.0.1 -p 1883
fi
status=0
mosquitto_pub "$@" -i "health-$$" -t holdfast/health -n 2>/dev/null || status=$?
[ "$status" -eq 0 ] || [ "$status" -eq 5 ]
