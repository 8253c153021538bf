# What Snakemake's own records do not show it: files lost or damaged, its records lost, itself killed.
import fcntl
import shutil
from itertools import chain

from snakemake.io import IOFile

from nsf_pipeline import staleness


def is_known(job):
    """Whether Snakemake's record of a job shows today's parameters; None if it has no record."""
    recorded = workflow.persistence.params(IOFile(job.outputs[0]))
    expected = [code_of(job.stage)]
    if job.stage not in ("picture", "videos", "predictions", "video_page"):
        expected += [settings_of(job.stage, job.variant)]
    if job.stage == "policies":
        expected += job.span
    if job.stage == "ensembles":
        expected += [int(Path(job.outputs[0]).stem)]
    return None if recorded is None else {repr(value) for value in expected} <= {*recorded}


def drop_dead_locks():
    """Remove the locks of processes that were killed.

    Each run holds a lock of the kernel's, which ends with its process: a run that is alone may
    remove what locks there are. Where there are no such locks, Snakemake's stay as they are.
    """
    folder = Path(".snakemake")
    try:
        folder.mkdir(exist_ok=True)
        workflow.alive = (folder / "alive").open("w")
        try:
            fcntl.flock(workflow.alive, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(folder / "locks", ignore_errors=True)
        except BlockingIOError:
            pass
        fcntl.flock(workflow.alive, fcntl.LOCK_SH)
    except OSError:
        pass


def recover():
    """Tell Snakemake, which has just been told what to make, what else has to run for it."""
    found = staleness.recovery(SETTINGS, workflow.dag_settings.targets, is_known)
    workflow.dag.forcefiles |= found.forced
    for line in found.mended:
        print(f"{line}; made again", file=sys.stderr)
    if workflow.dryrun:
        print(*found.refused, sep="\n", end="\n" * bool(found.refused), file=sys.stderr)


def refuse_bad_sources():
    """Stop before anything is deleted, if a job would read a file that is not as it should be."""
    jobs = list(workflow.dag.needrun_jobs())
    made = {*chain.from_iterable(job.output for job in jobs)}
    lines = staleness.refusals(SETTINGS, {*chain.from_iterable(job.input for job in jobs)} - made)
    if lines:
        print(*lines, sep="\n", file=sys.stderr)
        sys.exit(1)


def prepare_dag(*arguments, prepare=workflow._prepare_dag, **options):
    """Snakemake's own, when it runs or would run jobs, with the above around it."""
    runs = workflow.execution_settings is not None and not workflow.touch
    if runs and not workflow.dryrun and workflow.execution_settings.lock:
        drop_dead_locks()
    # Whatever stands under its name is whole, but may not be what was being made when it was killed.
    workflow.dag_settings.force_incomplete = True
    # Sources count by content, not by time: also those that Snakemake finds too large to look into.
    workflow.dag_settings.max_checksum_file_size = 2**60
    prepare(*arguments, **options)
    if runs:
        recover()


# There is no other place between Snakemake's reading of its options and its making of the graph.
if workflow.is_main_process:
    workflow._prepare_dag = prepare_dag


onstart:
    if workflow.is_main_process and not workflow.touch:
        refuse_bad_sources()
