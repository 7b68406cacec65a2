# shellcheck shell=sh
# One service: brought up, brought to a new version and, if that does not become ready, back to the old one.

# bring_up ROLE DIRECTORY FILE…: FILE are the database's, which the new version may change in a way that the old one
# cannot read.
bring_up() {
    role_=$1 new=$2 unit=edge-$1.service
    shift 2
    old=$(used_version "$role_")
    if [ "$old" = "$new" ] && [ -z "$changed" ] && cmp -s "$new/$unit" "$units/$unit" &&
        systemctl --quiet is-active "$unit"; then
        say "$unit runs $(basename "$new") already."
        return 0
    fi
    if [ -z "$old" ]; then start_first; else replace "$@"; fi
    forget_versions "$role_" "$new" "$old"
}

start_first() {
    use_version "$role_" "$new"
    systemctl --quiet enable "$unit"
    started=$(date +%s)
    systemctl restart "$unit" || { tell_why; fail "$unit is not ready; it is tried again and again"; }
}

replace() {
    [ "$old" = "$new" ] || room_for_copy "$@"
    trap '' HUP TERM # a connection that breaks must not leave a host where nothing runs
    say "Stopping $unit: what runs may end, for as long as its settings allow."
    systemctl stop "$unit"
    [ "$old" = "$new" ] || copy_files "$@"
    use_version "$role_" "$new"
    systemctl --quiet enable "$unit"
    started=$(date +%s)
    if try_start; then
        rm -rf "$copies"
        return 0
    fi
    tell_why
    [ "$old" != "$new" ] || fail "$unit is not ready; it is tried again and again"
    go_back "$@"
}

# The first start counts: with Restart= the second could succeed after we have turned back. In /run, so that a power cut
# right now leaves no trace.
try_start() {
    trial=/run/systemd/system/$unit.d
    mkdir -p "$trial"
    printf '[Service]\nRestart=no\n' >"$trial/zz-trial.conf"
    trap 'rm -rf "$trial"; systemctl daemon-reload' EXIT
    systemctl daemon-reload
    good=0
    systemctl start "$unit" || good=$?
    rm -rf "$trial"
    trap - EXIT
    systemctl daemon-reload
    return "$good"
}

go_back() {
    say "$(basename "$new") is not ready. Going back to $(basename "$old")."
    systemctl stop "$unit"
    put_back "$@"
    use_version "$role_" "$old"
    rm -rf "$new"
    systemctl restart "$unit" || { tell_why; fail "$unit is not ready with $(basename "$old") either"; }
    fail "$unit could not be upgraded. It runs $(basename "$old") as before; nothing is lost"
}

tell_why() {
    say "What $unit said:"
    journalctl --quiet --no-pager --output=cat --unit "$unit" --since "@$started" | tail -n 15 | sed 's/^/    /' >&2
}

# -- the database's files, while nobody writes them --------------------------------------------------------------------

copies=$state/before-upgrade

room_for_copy() {
    size=$(du -ck "$@" 2>/dev/null | tail -n 1 | cut -f1)
    room=$(df -Pk "$state" | awk 'END { print $4 }')
    [ "$size" -lt "$room" ] || fail "$state has $room KB left, and $size KB are needed for a copy of the database"
}

copy_files() {
    rm -rf "$copies"
    mkdir -m 700 "$copies"
    for file in "$@"; do
        [ ! -e "$file" ] || cp -a --reflink=auto "$file" "$copies/"
    done
}

# A version that never was ready has taken nothing in: whatever it changed may go.
put_back() {
    [ -n "$(ls -A "$copies")" ] || return 0
    for file in "$@"; do rm -f "$file"; done
    cp -a "$copies/." "$(dirname "$1")/"
    rm -rf "$copies"
}

# take_away ROLE: program and unit; not what is the operator's, as drop-ins are.
take_away() {
    systemctl --quiet disable --now "edge-$1.service" 2>/dev/null || true
    rm -rf "$units/edge-$1.service" "/usr/local/bin/edge-$1" "${opt:?}/$1" "$opt/$1"-*
    rmdir "$opt" 2>/dev/null || true
    systemctl daemon-reload
    systemctl reset-failed "edge-$1.service" 2>/dev/null || true
}

# take_all ROLE: configuration, data and user.
take_all() {
    rm -rf "${etc:?}/$1.toml" "$etc/$1.env" "$etc/$1.secrets" "${state:?}/$1" "$units/edge-$1.service.d"
    rmdir "$etc" "$state" "$opt" 2>/dev/null || true
    userdel "holdfast-$1" 2>/dev/null || true
}
