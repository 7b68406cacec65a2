# shellcheck shell=sh
# A version is a virtual environment of its own, /opt/holdfast/agent-0.1.0-1a2b3c4d5e6f, and the link /opt/holdfast/agent
# says which is used. So a new one is made beside the old, which runs meanwhile, and going back is one link.

# version_of ROLE: the number, and what tells two checkouts of one number apart.
version_of() {
    if [ -n "$wheels" ]; then
        set -- "$1" "$wheels"/holdfast-*.whl
        if [ $# -ne 2 ] || [ ! -e "$2" ]; then fail "--wheels is '$wheels': expected one holdfast-….whl in it"; fi
        number=$(basename "$2" | cut -d- -f2)
        content=$(cat "$2" "$checkout/constraints.txt" "$here/systemd/edge-$1.service" | sha256sum)
    else
        number=$(sed -n 's/^version = "\(.*\)"/\1/p' "$checkout/pyproject.toml")
        content=$(sources_of "$1" | LC_ALL=C sort | while read -r file; do cat "$checkout/$file"; done | sha256sum)
    fi
    echo "$number-$(echo "$content" | cut -c1-12)"
}

sources_of() {
    (cd "$checkout" && find broker edge_agent hub pyproject.toml constraints.txt "deploy/systemd/edge-$1.service" \
        -type f ! -name '*.pyc')
}

# make_version ROLE DIRECTORY: build it, unless it is there.
make_version() {
    [ ! -e "$2/complete" ] || return 0
    python=$(find_python)
    say "Making $2"
    rm -rf "$2" # the rest of one that was broken off
    mkdir -p "$opt"
    "$python" -m venv "$2"
    install_into "$1" "$2"
    cp "$here/systemd/edge-$1.service" "$2/"
    "$2/bin/edge-$1" --version >/dev/null
    touch "$2/complete"
}

find_python() {
    "$checkout/scripts/find-python.sh" 2>/dev/null && return 0
    need_packages python3-venv >&2 # Python's own module, and Debian's own package
    "$checkout/scripts/find-python.sh"
}

# install_into ROLE DIRECTORY
install_into() {
    set -- "$1" "$2" -m pip install --quiet --disable-pip-version-check --no-input -c "$checkout/constraints.txt"
    name=$1 python="$2/bin/python"
    shift 2
    if [ -n "$wheels" ]; then
        "$python" "$@" --no-index --find-links "$wheels" "holdfast[$name]"
        return 0
    fi
    copy=$(mktemp -d) # a build leaves files behind, and the checkout may be anybody's
    trap 'rm -rf "$copy"' EXIT
    (cd "$checkout" && cp -R broker edge_agent hub pyproject.toml README.md LICENSE "$copy")
    "$python" "$@" "${copy}[$name]"
    rm -rf "$copy"
}

# use_version ROLE DIRECTORY: in one step, so that there is no moment without.
use_version() {
    ln -sfn "$2" "$opt/.$1.new"
    mv -T "$opt/.$1.new" "$opt/$1"
    put "$units/edge-$1.service" 644 <"$2/edge-$1.service"
    ln -sfn "$opt/$1/bin/edge-$1" "/usr/local/bin/edge-$1"
    systemctl daemon-reload
}

# used_version ROLE: its directory, or nothing.
used_version() { [ ! -e "$opt/$1/complete" ] || readlink "$opt/$1"; }

# forget_versions ROLE DIRECTORY…: all but these.
forget_versions() {
    role_=$1
    shift
    for one in "$opt/$role_"-*; do
        [ -d "$one" ] || continue
        case " $* " in
            *" $one "*) ;;
            *) rm -rf "$one" ;;
        esac
    done
}
