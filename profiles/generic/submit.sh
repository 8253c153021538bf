# sh submit.sh SCHEDULER COMMAND... JOBSCRIPT: submit a job script by a scheduler's command; print the job's id.
#
# Schedulers forget a job that has ended, so the job leaves its exit status in results/logs/generic/ID.exit.
# A job of a killed Snakemake that still runs is not submitted again: its id, kept in JOB.id meanwhile, is printed.
set -eu
scheduler=$1
shift
for script; do :; done
records=results/logs/generic
mkdir -p "$records"

# The second line has all that Snakemake knows of the job; its number there may differ in the next run.
# Where it leaves out the inputs, for there are many, the settings' stamps stand for them.
job=$(
  known=$(sed -n -e 's/"jobid": [0-9]*//' -e 2p "$script")
  case $known in *'"input": null'*) known=$known$(ls -R results/stamps) ;; esac
  printf %s "$known" | cksum | tr ' ' -
)
last=$records/$job.id
if [ -s "$last" ]; then
  id=$(cat "$last")
  if [ "$(sh "${0%submit.sh}status.sh" "$scheduler" "$id")" = running ]; then
    echo "job $id of an earlier run still runs, and is not submitted again" >&2
    echo "$id"
    exit
  fi
fi

# After the second line: where the job ends, the working folder is the run's.
{
  sed 2q "$script"
  echo "trap 'code=\$?; last=$last"
  cat << 'END'
exit=results/logs/generic/${PBS_JOBID:-${LSB_JOBID:-${SLURM_JOB_ID:-${JOB_ID:-}}}}.exit
echo $code > "$exit.part" && mv "$exit.part" "$exit"
rm -f "$last"' EXIT
END
  sed 1,2d "$script"
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
echo "$id" > "$last"
echo "$id"
