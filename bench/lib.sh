# lib.sh: what the programs in this directory share. Sourced from the root of the project, with
# $command set (what was typed). Makes $tmp; on the way out all that was started ends and $tmp
# goes. shellcheck shell=sh

tmp=$(mktemp -d)
started='' # pids of all that was started, the latest first: the loader before servers

# The number of a process that ended may belong to somebody else by now.
is_child() {
    grep -q "^PPid:[[:space:]]*$$\$" "/proc/$1/status" 2>/dev/null
}

end_processes() {
    for pid in "$@"; do
        is_child "$pid" || continue
        kill "$pid" 2>/dev/null || true
        tries=0
        while is_child "$pid" && [ $tries -lt 20 ]; do
            sleep 0.1 # waiting for it, the shell also reaps the one that ended
            tries=$((tries + 1))
        done
        if is_child "$pid"; then kill -s KILL "$pid" 2>/dev/null || true; fi
    done
}

clean_up() {
    status=$?
    trap - EXIT INT TERM HUP
    # shellcheck disable=SC2086 # one word for each pid
    end_processes $started
    rm -rf "$tmp"
    exit "$status"
}
trap clean_up EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

die() {
    echo "${command%% *}: $*" >&2
    exit 1
}

# In the background with wait, so that a signal is not kept until it ends.
run() {
    "$@" &
    last=$!
    started="$last $started"
    wait "$last"
}

# start name command...: sets pid and address (host:port).
start() {
    process=$1 log="$tmp/$1.log"
    shift
    : >"$log" # the server may open it later than sed reads it
    "$@" >"$log" 2>&1 &
    pid=$!
    started="$pid $started"
    tries=0
    while :; do
        alive=yes # asked first: it may write the line and end in between
        is_child "$pid" || alive=no
        address=$(tr -d '\r' <"$log" | sed -n 's|^listening on tcp://\([^[:space:]]*:[0-9]*\)[[:space:]]*$|\1|p')
        [ -z "$address" ] || break
        tries=$((tries + 1))
        if [ $tries -gt 300 ] || [ $alive = no ]; then
            cat "$log" >&2
            die "$process: no line 'listening on tcp://…' came (within 30 s, flushed)"
        fi
        sleep 0.1
    done
}

# resident pid: bytes.
resident() { awk '/^VmRSS/ { print $2 * 1024 }' "/proc/$1/status"; }

print_heading() {
    commit=$(git rev-parse --short HEAD 2>/dev/null || echo none)
    git diff --quiet HEAD -- ':!docs' 2>/dev/null || commit="$commit with local changes"
    echo "Date: $(date -u '+%Y-%m-%d %H:%M UTC')  "
    echo "Commit: $commit  "
    echo "Machine: $(uname -srm), $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores  "
    echo "Command: \`$command\`"
}
