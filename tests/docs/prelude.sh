# Stands before every `sh` and `console` block: what a reader has (or leaves running), and a test has not.
# ROOT: the repository. ROUTER_LOG: where the log of a server that the block starts goes.
set -euo pipefail
server=
reloads=0

# A server in the foreground would hold the block up for ever: it runs until the block has ended.
serve() {
    command neurograph-router serve "$@" 2>>"$ROUTER_LOG" &
    server=$!
    until_logged listening
}

# Wait until an event has been logged once, or `$2` times.
until_logged() {
    until (($(grep -c "\"event\": \"$1" "$ROUTER_LOG") >= ${2-1})); do
        kill -0 "$server" 2>/dev/null || { cat "$ROUTER_LOG" >&2; return 1; }
        sleep 0.02
    done
}

# All that the block has left running ends with it; the server in order.
stop() {
    local code=$?
    set +e
    trap - EXIT
    trap '' TERM
    kill 0
    if [[ -n $server ]] && ! wait "$server"; then
        cat "$ROUTER_LOG" >&2
        code=1
    fi
    exit "$code"
}
trap stop EXIT

neurograph-router() {
    case ${1-} in
    serve) serve "${@:2}"; return ;;
    pub) await_subscribers ;;
    esac
    command neurograph-router "$@"
}

# Those that were put in the background before.
await_subscribers() {
    local wanted
    wanted=$(jobs -r | grep -c "router sub") || return 0
    until command curl -s "http://127.0.0.1:$NEUROGRAPH_PORT/api/v1/websocket/status" |
        grep -q "\"total_subscriptions\":$wanted"; do
        sleep 0.02
    done
}

# An error is a failure here.
curl() { command curl --silent --fail-with-body "$@"; }

# Each must be a target; `run` is run as well.
make() {
    command make --no-print-directory --dry-run --directory "$ROOT" "$@" >/dev/null
    if [[ ${1-} == run ]]; then
        local flags=${2-}
        # shellcheck disable=SC2086
        serve ${flags#ARGS=}
    fi
}

# Found in PATH; the package was installed before.
npx() { "$@"; }

# What systemd does with a unit's `ExecReload`.
systemctl() {
    [[ $2 == neurograph-router ]]
    case $1 in
    reload) kill -HUP "$server" && until_logged "configuration read anew" "$((reloads += 1))" ;;
    *) echo "no test for systemctl $1" >&2 && return 1 ;;
    esac
}

# A measurement takes minutes: only its arguments are looked at.
python() {
    if [[ "${1-} ${2-}" == "-m benchmarks" ]]; then
        (cd "$ROOT" && command python -c 'import sys; from benchmarks.__main__ import _parser as p; p().parse_args(sys.argv[1:])' "${@:3}")
    else
        command python "$@"
    fi
}

# What a program in the background listens on.
await_port() {
    until (: <"/dev/tcp/127.0.0.1/$1") 2>/dev/null; do sleep 0.02; done
}
