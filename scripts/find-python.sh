#!/bin/sh
# Prints the first Python from 3.11 that can make a virtual environment.
set -eu

for name in python3.13 python3.12 python3.11 python3; do
    # It is run, not only looked up: pyenv puts names on the PATH for versions that are switched off, and
    # Debian's Python has ensurepip only with the package python3-venv.
    if "$name" -c 'import ensurepip, sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
        command -v "$name"
        exit 0
    fi
done

cat >&2 <<'END'
Holdfast needs Python 3.11 or later, with its venv module, and found none on the PATH.
  Debian, Ubuntu: apt-get install python3-venv (where that is older than 3.11: python3.11-venv)
  Mac:            brew install python@3.13
END
exit 1
