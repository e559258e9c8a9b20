#!/bin/bash
# What the programs that measure share; they source it. Servers run on CPU 0, the load on CPU 1, all
# servers at once and measured in turn; counted is the CPU time of a server and all its children.
#   ROUNDS=5 SECONDS_EACH=1
# Names: tree, load, rounds, seconds, work (a directory for this run), and for each server by its name
# port, target (the path that must answer, /hello by default) and pid.
tree=$(cd "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/.." && pwd)
load=$tree/build/release/bench-load
# shellcheck disable=SC2034 # for those who source it
rounds=${ROUNDS:-5}
seconds=${SECONDS_EACH:-1}
declare -A pid port target
work=$(mktemp -d)

fail() {
    echo "scripts/${0##*/}: $1" >&2
    exit 1
}

# Ends what start and hold have started, nothing else.
stop() {
    local name
    for name in "${!pid[@]}"; do
        kill -TERM "${pid[$name]}" 2>/dev/null || true
    done
    wait
    rm -rf "$work"
}
trap stop EXIT
trap 'exit 130' INT TERM HUP

# Becomes a program on one CPU, or on the only one.
on_cpu() {
    local cpu=$1
    shift
    [ "$(nproc)" -gt 1 ] || exec "$@"
    exec taskset -c "$cpu" "$@"
}

# Starts a server and waits until it answers.
start() {
    local name=$1 tries=0
    shift
    on_cpu 0 "$@" >"$work/$name.out" 2>&1 &
    pid[$name]=$!
    until "$load" -p "${port[$name]}" -P "${target[$name]:-/hello}" -c 1 -d 0.05 >/dev/null 2>&1; do
        tries=$((tries + 1))
        if [ "$tries" -gt 100 ] || ! kill -0 "${pid[$name]}" 2>/dev/null; then
            cat "$work/$name.out" >&2
            fail "$name does not answer"
        fi
        sleep 0.05
    done
}

# Holds so many connections to a server, each with one request behind it, until the end.
hold() {
    local name=$1 count=$2
    : >"$work/$name.held"
    (
        trap - EXIT
        ulimit -n "$(ulimit -H -n)"
        for _ in $(seq "$count"); do
            exec {fd}<>"/dev/tcp/127.0.0.1/${port[$name]}"
            printf 'GET %s HTTP/1.1\r\nHost: localhost\r\n\r\n' "${target[$name]:-/hello}" >&"$fd"
            read -r _ <&"$fd"
        done
        echo "$count" >"$work/$name.held"
        exec sleep infinity
    ) 2>"$work/$name.hold" &
    pid[$name.holder]=$!
    until [ -s "$work/$name.held" ]; do
        if ! kill -0 "${pid[$name.holder]}" 2>/dev/null; then
            cat "$work/$name.hold" >&2
            fail "$name: no $count idle connections"
        fi
        sleep 0.05
    done
}

# How many descriptors a server and its children have: more than the connections that it holds.
descriptors() {
    local each
    for each in $(tree_of "${pid[$1]}"); do
        ls "/proc/$each/fd"
    done | wc -l
}

# A process and all that descend from it.
tree_of() {
    local -a children
    local child
    echo "$1"
    read -r -a children -d '' < <(cat "/proc/$1/task/"*/children 2>/dev/null) || true
    for child in "${children[@]}"; do
        tree_of "$child"
    done
}

cpu_ns() {
    local each
    for each in $(tree_of "$1"); do
        cat "/proc/$each/task/"*/schedstat 2>/dev/null
    done | awk '{ sum += $1 } END { printf "%.0f\n", sum }'
}

# Appends "cpu_us per_second p99_us p50_us" of one run to the file of server and scenario.
measure() {
    local name=$1 scenario=$2 before after line
    shift 2
    before=$(cpu_ns "${pid[$name]}")
    line=$(on_cpu 1 "$load" -p "${port[$name]}" -d "$seconds" "$@") || fail "$name: $line"
    after=$(cpu_ns "${pid[$name]}")
    echo "$line" | tr ' =' '\n ' | awk -v ns=$((after - before)) '
        { value[$1] = $2 }
        END { print ns / 1000 / value["done"], value["per_second"], value["p99_us"], value["p50_us"] }
    ' >>"$work/$scenario.$name"
}

# The median of a column of what was measured of a scenario and a server.
median() {
    awk -v column="$3" '{ print $column }' "$work/$1.$2" | sort -g | awk '
        { value[NR] = $1 }
        END { print NR % 2 ? value[(NR + 1) / 2] : (value[NR / 2] + value[NR / 2 + 1]) / 2 }'
}
