#!/bin/sh
# A worker that cannot begin.
echo 'esta-worker: no weights in a' >&2
exit 8
