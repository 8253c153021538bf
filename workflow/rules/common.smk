# What the rules share: the checked settings, and the stamps that make a job stale.
import getpass

from nsf_pipeline import paths, user_code
from nsf_pipeline.config import ConfigError, ExportConfig, parse_config, require_points
from nsf_pipeline.errors import UserError
from nsf_pipeline.files import FileError
from nsf_pipeline.protocols import rows as protocol_rows
from nsf_pipeline.stages import STAGES, STATISTICS
from nsf_pipeline.stamps import Stamps
from nsf_pipeline.system import slurm
from nsf_pipeline.system.printing import complain
from nsf_pipeline.tracking import mode_of

# What `report.smk` adds to the config, which is no setting; it is there if another module shares it.
REPORT_STATE = "report_state"
config.pop(REPORT_STATE, None)

try:
    SETTINGS = parse_config(config, "config")
except ConfigError as error:
    complain(str(error))
    sys.exit(1)

# Classes of the user's are found before anything starts; their code runs in jobs alone.
try:
    for variant in map(SETTINGS.variant, SETTINGS.variant_names):
        if variant.model.user_class:
            user_code.require(variant.model.user_class)
except UserError as error:
    complain(f"config: variants: {error}")
    sys.exit(1)

# Snakemake prints the user's name; some containers have none for theirs.
try:
    getpass.getuser()
except (KeyError, OSError):
    os.environ.update(LOGNAME=str(os.getuid()))

# On Slurm, Snakemake runs twice in a job, and the second one keeps a cache in the home folder, if there is one.
if IS_JOB:
    try:
        os.makedirs(
            os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), exist_ok=True
        )
    except OSError:
        os.environ.update(XDG_CACHE_HOME=os.path.abspath(".snakemake/cache"))

# What Snakemake and jobs would only find out later, and say in many lines.
if not os.path.isdir(".snakemake") and not os.access(".", os.W_OK | os.X_OK):
    sys.exit(f"{os.getcwd()}: cannot write to the run's folder; name another with --directory")
for folder in paths.FOLDERS:
    if os.path.exists(folder) and not os.path.isdir(folder):
        sys.exit(f"{folder}: expected a folder, found something else; move it away")

# A run whose Snakemake was killed has left its jobs in Slurm's queue.
if not IS_JOB and slurm.runs_jobs(sys.argv[1:]):
    try:
        slurm.await_earlier_jobs(Path.cwd())
    except KeyboardInterrupt:
        sys.exit(130)
HOPELESS = slurm.Hopeless()

# Settings of W&B shape no model, so they are in no model's stamp.
WANDB_MODE, _ = mode_of(SETTINGS.wandb)
os.environ.setdefault("WANDB_MODE", WANDB_MODE)
os.environ.setdefault("WANDB_PROJECT", SETTINGS.wandb.project)
STAMPS = Stamps(SETTINGS, Path(paths.STAMPS))
SHARDS = [paths.shard_name(shard) for shard in range(SETTINGS.num_shards)]
# The files of a data set of several; none if it is one.
PARTS = [paths.shard_name(part) for part in range(SETTINGS.parts.num_shards)]
SECOND_SHARDS = [paths.shard_name(shard) for shard in SETTINGS.second_shards]
ENSEMBLES = [paths.shard_name(shard) for shard in range(SETTINGS.ensembles.num_shards)]
VIDEOS = [f"{index:07d}" for index in SETTINGS.videos.trajectories] + [*SETTINGS.videos.ranked]
PREDICTIONS = [f"{place:07d}" for place in SETTINGS.videos.predicted]
VARIANTS = SETTINGS.variant_names
POINTS = [*SETTINGS.points]
STANDARD_ROWS, HARDER_ROWS, SHORT_ROWS = (
    {row.name: row for row in rows_of(SETTINGS.protocols)}
    for rows_of in (protocol_rows.standard, protocol_rows.harder, protocol_rows.short)
)
# The rows and models of the second round's table; none if there is no second round.
SECOND_ROWS, SECOND_WORLDS = {}, ()
if SETTINGS.second_round.trajectories:
    SECOND_ROWS = {row.name: row for row in protocol_rows.second_round(SETTINGS.protocols)}
    SECOND_WORLDS = protocol_rows.SECOND_WORLDS
PLANNED_ROWS = {**STANDARD_ROWS, **HARDER_ROWS, **SHORT_ROWS}
ROWS = {**PLANNED_ROWS, **SECOND_ROWS}
# The rows whose episodes are shown in videos; none if the flow has no rows.
SHOWN_ROWS = {name: row for name, row in STANDARD_ROWS.items() if row.trained == protocol_rows.FLOW}
WORLDS = protocol_rows.worlds(SETTINGS.protocols)
GOAL_ROWS = {row.name: row for row in protocol_rows.goals(SETTINGS.protocols)}
PUSHES = SETTINGS.protocols.push_shards
# What all exports hold, as options of the command.
EXPORTED = [f"--split {name}" for name in SETTINGS.exports.splits]
EXPORTED += ["--successes-only"] * SETTINGS.exports.successes_only
EXPORTED += ["--contact-only"] * SETTINGS.exports.contact_only
EXPORTED += [f"--frames {SETTINGS.exports.frames}"]
# Names in the report for an evaluation's files.
LABELS = {
    "table": "Scores (CSV, to download)",
    "distances": "Joint scores (CSV, to download)",
    "consistency": "Flow consistency (CSV, to download)",
    "skill": "Skill against horizon",
    "calibration": "Calibration",
    "figure": "Block positions",
}


wildcard_constraints:
    shard=r"\d{5}",
    part=r"\d{5}",
    trajectory=r"\d{7,10}|best|median|worst",
    place=r"\d{7,10}",
    variant="|".join([*VARIANTS, *POINTS]) or "(?!)",
    row="|".join(ROWS),
    world="|".join([*WORLDS, *SECOND_WORLDS]),
    goal_row="|".join(GOAL_ROWS),
    format="|".join(ExportConfig().formats),


def all_shards(path):
    """The input that is a file of every shard. Jobs on a cluster, which read all rules, do not list it."""
    return lambda wildcards: expand(path, shard=SHARDS)


def stamp(stage, **more):
    """A stamp's path. It was written here, so a module's prefix or remote storage do not apply."""
    try:
        return local(STAMPS.of(stage, **more))
    except UserError as error:
        sys.exit(str(error))


def stamp_of(stage, **more):
    """The input that holds a stage's settings; it changes with them and with the stage's code."""
    return lambda wildcards: stamp(STAGES[stage], **more)


def environment(name):
    """A file in envs/. Snakemake fills in what stands in braces, so those of the path are doubled."""
    return str(ROOT / "envs" / f"{name}.yaml").replace("{", "{{").replace("}", "}}")


def logged(command):
    """A shell command whose output goes to the rule's log too; see `logged.sh`.

    It has no path of the checkout in it: another one would make all jobs run again.
    """
    return f'bash "$NSF_WORKFLOW/logged.sh" {{log:q}} {command}'


def all_cores(wildcards):
    """Threads of a job that takes the whole machine; on a cluster, the profile says how many."""
    try:
        return workflow.cores
    except Exception:  # Snakemake was not given any, as with a profile for a cluster
        return 4


def training_cores(wildcards):
    """Threads of a training: those of its sums and one that draws the batches.

    A user's class may use the whole machine.
    """
    trained = wildcards.get("variant")
    config = SETTINGS.variant(trained) if trained else SETTINGS
    cores = all_cores(wildcards)
    return cores if config.model.user_class else min(cores, config.training.threads + 1)


def raised(amount):
    """An amount of memory or time that is raised when a job is tried again."""
    return lambda wildcards, attempt: amount * attempt


def with_shard(amount):
    """MB of a job that holds a shard in memory, with more than the 6.5 kB that a trajectory takes."""
    return raised(amount + SETTINGS.shard_size // 100)


def with_searches(span):
    """MB of a job that searches side by side, from the first of its span on; a push takes 6 kB."""

    def amount(wildcards, attempt):
        first, stop = span(wildcards)
        pushes = (stop - first) * SETTINGS.planning.search.most_at_once
        return max(2000, 1000 + pushes * 6 // 1000) * attempt

    return amount


def log_of(job):
    return paths.LOG.format(job=job)


def benchmark_of(job):
    return paths.BENCHMARK.format(job=job)


def policy_stamp(wildcards):
    """The stamp of a policy shard."""
    span = SETTINGS.shard_range(int(wildcards.shard))
    return sized_stamp(STAGES["policies"], wildcards.shard, span, SETTINGS.shard_size)


def statistics_stamp(wildcards):
    """The stamp of the statistics of a part of the data set."""
    span = SETTINGS.parts.shard_range(int(wildcards.part))
    return sized_stamp(STATISTICS, wildcards.part, span, SETTINGS.parts.size)


def sized_stamp(stage, part, span, usual):
    """The stamp of a file of some trajectories: a separate one if it has, or had, fewer than usual."""
    count = span[1] - span[0]
    if count < usual or STAMPS.has(stage, part):
        return stamp(stage, part=part, trajectories=count)
    return stamp(stage)


def shards_of(wildcards):
    """The rollout shards of a part of the data set."""
    shards = SETTINGS.shards_with(*SETTINGS.parts.shard_range(int(wildcards.part)))
    return expand(paths.ROLLOUTS, shard=[SHARDS[shard] for shard in shards])


def source_of(wildcards):
    """The file to take a trajectory from: its rollout shard, or the data set for a ranked one."""
    if not wildcards.trajectory.isdecimal():
        return paths.DATASET
    shard = int(wildcards.trajectory) // SETTINGS.shard_size
    return paths.ROLLOUTS.format(shard=paths.shard_name(shard))


def video_stamp(wildcards):
    """The stamp of a video. The rank of a trajectory depends on more settings than its content."""
    is_one = wildcards.trajectory.isdecimal()
    return stamp(STAGES["video" if is_one else "ranked_video"])


def export_stamp(wildcards):
    """The stamp of an export, which depends on what all exports hold, but not on which there are."""
    return stamp(STAGES["export"], chosen=" ".join(EXPORTED))


def video_page_stamp(wildcards):
    """The stamp of the page, which depends on the settings that its videos depend on."""
    of = "prediction" if PREDICTIONS else "ranked_video" if SETTINGS.videos.ranked else "video"
    return stamp(STAGES["video_page"]._replace(reads=STAGES[of].reads))


def span_of(wildcards):
    """The number of the first episode of a shard, and one past its last; of no row, or no shard of it, a clear error."""
    shards = protocol_rows.shards(ROWS[wildcards.row], SETTINGS.protocols)
    return shards[int(wildcards.shard)]


def stage_of(name, trained):
    """The stage of a trial, which depends on the trained model behind it; empty for none."""
    kinds = {"": "untrained_", protocol_rows.SECOND_ROUND: "second_"}
    return STAGES[f"{kinds.get(trained, '')}{name}"]


def training_stamp(wildcards):
    """The stamp of a variant's training, which is another stage for a user's class."""
    own = SETTINGS.variant(wildcards.variant).model.user_class
    return stamp(STAGES["user_train" if own else "train"], variant=wildcards.variant)


def model_of(trained):
    """The file of a trained model; none if there is none."""
    if trained == protocol_rows.SECOND_ROUND:
        return paths.of_second_round(paths.MODEL)
    return paths.of_variant(paths.MODEL, trained if trained in VARIANTS else "") if trained else []


def episode_stamp(wildcards):
    """The stamp of a shard of episodes. It depends on their number, which may be less in the last."""
    first, stop = span_of(wildcards)
    trained = ROWS[wildcards.row].trained
    of = {"variant": trained} if trained in VARIANTS else {"part": str(stop - first)}
    return stamp(
        stage_of("episodes", trained),
        **of,
        episodes=stop - first,
        first_seed=SETTINGS.protocols.first_seed,
    )


def trained_model(wildcards):
    """The model of a row; none if it plans without a trained one."""
    return model_of(ROWS[wildcards.row].trained)


def shards_of_rows(path, rows):
    """A file of every shard of some rows."""
    return [
        path.format(row=name, shard=paths.shard_name(shard))
        for name, row in rows.items()
        for shard in range(len(protocol_rows.shards(row, SETTINGS.protocols)))
    ]


def push_stamp(wildcards):
    """The stamp of a shard of one push."""
    first, stop = PUSHES[int(wildcards.shard)]
    trained = protocol_rows.trained(wildcards.world)
    of = {"variant": trained} if trained in VARIANTS else {"part": str(stop - first)}
    return stamp(
        stage_of("pushes", trained),
        **of,
        tasks=stop - first,
        candidates=SETTINGS.protocols.push_candidates,
        runs=SETTINGS.protocols.push_runs,
        noise=SETTINGS.protocols.push_noise,
    )


def pushing_model(wildcards):
    """The trained model that chooses; none if there is none."""
    return model_of(protocol_rows.trained(wildcards.world))


def shards_of_worlds(path, worlds=None):
    """A file of every shard of every model that chooses one push."""
    shards = [paths.shard_name(shard) for shard in range(len(PUSHES))]
    return expand(path, world=WORLDS if worlds is None else worlds, shard=shards)


def goal_stamp(wildcards):
    """The stamp of a row's tasks with a goal some steps ahead."""
    trained = GOAL_ROWS[wildcards.goal_row].trained
    of = {"variant": trained} if trained in VARIANTS else {}
    return stamp(stage_of("goals", trained), **of, tasks=SETTINGS.protocols.goal_tasks)


def goal_model(wildcards):
    """The trained model of a row; none if there is none."""
    return model_of(GOAL_ROWS[wildcards.goal_row].trained)


def options_of(models):
    """The options of a command that name a rule's input `variants`."""
    return lambda wildcards, input: [
        f"--variant={name}={path}" for name, path in zip(models, input.variants)
    ]


def scores_in(folder, category, *shown):
    """An evaluation's files in a folder, by name; those named in `shown` are in the report."""

    def output(name, file):
        path = f"{folder}/{file}"
        if name not in shown:
            return path
        return report(
            path,
            caption=f"../report/{Path(file).stem}.rst",
            category=category,
            labels={"result": LABELS[name]},
        )

    return {name: output(name, file) for name, file in paths.SCORES.items()}


def second_span(wildcards):
    """The first trajectory of a shard of the second round, and one past its last."""
    return SETTINGS.second_shard_range(int(wildcards.shard))


def second_stamp(wildcards):
    """The stamp of a policy shard of the second round."""
    span = second_span(wildcards)
    return sized_stamp(STAGES["second_policies"], wildcards.shard, span, SETTINGS.shard_size)


def require_second_round(wildcards):
    """No input; but a clear error if there is no second round."""
    if not SECOND_SHARDS:
        sys.exit("second_round.trajectories = 0: there is no second round; set it, e.g. to 10000")
    return []


def require_scaling(wildcards):
    """No input; but a clear error if the models of the scaling curves cannot be trained."""
    try:
        require_points(SETTINGS)
    except ConfigError as error:
        sys.exit(f"config: {error}")
    return []


def out_of_date(files):
    """The lines that the report starts with: what is missing or out of date, and why.

    Only the report calls it, so no other run and no job pays for it.
    """
    wanted = [path for path in rules.all.input if not callable(path)]
    for output in (rules.policies.output, rules.rollouts.output):
        wanted += expand(output, shard=SHARDS)
    if any(str(file.path).startswith(f"{paths.ABLATIONS}/") for file in files):
        wanted += [*MODELS.values(), *rules.ablations.input]
    if any(str(file.path).startswith(f"{paths.SCALING}/") for file in files):
        wanted += [*SCALING_MODELS.values(), *rules.scaling_curves.output]
    if any(str(file.path) == paths.PAGE.format(page="planning") for file in files):
        wanted += rules.planning.input
    try:
        from nsf_pipeline.why import out_of_date as lines_of

        lines = lines_of(SETTINGS, [Path(path) for path in dict.fromkeys(map(str, wanted))])
    except Exception as error:  # what cannot be checked is no reason to have no report
        lines = [f"This could not be checked: {error}"]
    return [html.escape(" ".join(line.split())) for line in lines]


onstart:
    STAMPS.drop_others()
    slurm.watch(Path.cwd(), log, HOPELESS)


# Again, because a dry run with other settings may have written stamps meanwhile.
onsuccess:
    STAMPS.drop_others()


onerror:
    STAMPS.drop_others()
    HOPELESS.tell(slurm.refused_in(log))
