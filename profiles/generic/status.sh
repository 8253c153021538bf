# sh status.sh SCHEDULER ID: print `running`, `success` or `failed` for a job, as the executor asks for.
# A job has ended when the scheduler says so, or answers that it knows no such job. Then the exit status counts that
# the job has left behind; without one it was killed. No answer, or one that is not understood, ends no job.
scheduler=$1
id=$2

unless_ended() {
  case $scheduler in
    pbs)
      answer=$(timeout 30 qstat -f "$id" 2>&1)
      case $?:$answer in
        153:* | 35:* | *"Unknown Job"* | *"has finished"*) return ;;
        *"job_state = "[CFX]*) return ;;
      esac
      ;;
    lsf)
      answer=$(timeout 30 bjobs -noheader -o stat "$id" 2>&1)
      case $answer in
        DONE* | EXIT* | ZOMBI* | *"is not found"*) return ;;
      esac
      ;;
    sge)
      answer=$(timeout 30 qstat -j "$id" 2>&1)
      case $answer in
        *"do not exist"*) return ;;
      esac
      ;;
    *)
      echo "$0: expected pbs, lsf or sge, got $scheduler" >&2
      exit 1
      ;;
  esac
  echo running
  exit
}

unless_ended
# A shared file system may show the file late.
folder=results/logs/generic
for second in 0 1 1 1 1 1; do
  sleep $second
  ls "$folder" > /dev/null 2>&1
  read -r code 2> /dev/null < "$folder/$id.exit" && break
done
[ "$code" = 0 ] && echo success || echo failed
