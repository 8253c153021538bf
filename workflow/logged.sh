# bash logged.sh LOG COMMAND...: what the command prints goes to the log and on to standard output.
# Nothing but the command can fail: neither a closed terminal, nor a full disk, nor a reader that has gone.
set -o pipefail

# Streams that are closed are opened on the null device; the next file opened would take their numbers.
(: 3>&1) 2> /dev/null || exec > /dev/null
(: 3>&2) || exec 2> /dev/null

log=$1
shift
# Signals are for the command, which may take some seconds to end; it is waited for.
trap : HUP INT TERM
# Descriptor 3 is the terminal, for a progress bar. `tee` outlives signals; if it fails, the rest is dropped.
(set -x; "$@") 3>&2 2>&1 | (trap '' HUP INT PIPE TERM; tee "$log" 2>&1 || cat > /dev/null)
