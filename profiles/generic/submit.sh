# sh submit.sh COMMAND... JOBSCRIPT: submit a job script by a scheduler's command, and print the job's id.
# The job will leave its exit status in results/logs/generic/ID.exit: schedulers forget a job that has ended.
set -eu
for script; do :; done
mkdir -p results/logs/generic

# After the first line: where the job ends, the working folder is the run's.
{
  sed 1q "$script"
  cat << 'END'
trap 'code=$?
id=${PBS_JOBID:-${LSB_JOBID:-${SLURM_JOB_ID:-${JOB_ID:-}}}}
exit=results/logs/generic/$id.exit
echo $code > "$exit.part" && mv "$exit.part" "$exit"' EXIT
END
  sed 1d "$script"
} > "$script.recorded"
chmod +x "$script.recorded"
mv "$script.recorded" "$script"

answer=$("$@") || {
  code=$?
  printf '%s\n' "$answer" >&2
  exit $code
}
# LSF answers `Job <ID> is submitted to queue <NAME>.`; the others print the id alone.
id=$(printf '%s\n' "$answer" | sed -e 's/^Job <\([0-9]*\)>.*/\1/' -e '/^[0-9]/!d' -e q)
[ "$id" ] || {
  echo "$0: expected a job's id from $1, got: $answer" >&2
  exit 1
}
echo "$id"
