#!/bin/sh
# A worker that never does anything; its process id lies in the folder it was started in.
echo $$ >worker.pid
exec sleep 600
