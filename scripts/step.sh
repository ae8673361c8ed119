#!/usr/bin/env bash
# step.sh NAME COMMAND...: runs a command of a long job under a name, and says how long it took.
set -uo pipefail

name=$1
shift
echo "== $name"
SECONDS=0
"$@"
code=$?
if ((code == 0)); then
    echo "== $name: $SECONDS s"
else
    echo "== $name: failed after $SECONDS s, exit code $code" >&2
fi
exit "$code"
