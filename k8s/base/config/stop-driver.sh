#!/bin/bash
# preStop hook of the head: the driver of a run gets SIGTERM and as long as it needs to leave a checkpoint, up to $1
# seconds. Without it Kubernetes would signal `ray start` alone, which kills the job's processes with the node.
set -u
readonly WAIT_S=${1:?seconds}

# A driver is a Python that runs a file of jobs/, other than a hook's jobs/drain.py.
drivers() {
  local process argv
  for process in /proc/[0-9]*; do
    mapfile -d '' -t argv 2>/dev/null <"$process/cmdline" || continue
    [[ ${argv[0]-} == *python* && ${argv[1]-} == *jobs/*.py && ${argv[1]-} != *jobs/drain.py ]] && echo "${process#/proc/}"
  done 2>/dev/null
}

pids=$(drivers)
# shellcheck disable=SC2086 # one word a process
[ -z "$pids" ] || kill -TERM $pids 2>/dev/null
for ((waited = 0; waited < WAIT_S; waited++)); do
  [ -n "$(drivers)" ] || break
  sleep 1
done
# Ray sends the end of the log to the submitter, which takes a log that is cut for a failure, and would be started again.
[ -z "$pids" ] || sleep 3
