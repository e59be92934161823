#!/bin/sh
# A worker that says its process id and never does anything.
echo "lingering as $$" >&2
exec sleep 600
