# The chain: policies -> rollouts -> dataset -> train and ensembles -> evaluate; pictures, videos and a report
# beside it; `ablations` trains and compares variants of the model, `scaling` larger and smaller ones.
import html
import os
import sys
from importlib.util import find_spec
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

# Jobs run `python -m nsf_pipeline` with this interpreter and this checkout, wherever they run. The
# checkout is the folder of this file, also where another workflow uses it as a module.
ROOT = Path(workflow.current_basedir.get_path_or_uri(secret_free=True))
sys.path.insert(0, str(ROOT))
try:
    import nsf_pipeline.config
except ImportError as error:
    sys.exit(f"{ROOT}: {error}; install what it needs: `make setup` there")
loaded = Path(find_spec("nsf_pipeline.config").origin).parents[2]
if os.pathsep in str(ROOT):
    sys.exit(f"{ROOT}: Python imports nothing from a path with {os.pathsep!r}; rename the folder")
if loaded.resolve() != ROOT.resolve():
    sys.exit(f"{ROOT}: expected its own nsf_pipeline, got that in {loaded}; import no other one")
search = {"PYTHONPATH": ROOT, "PATH": Path(sys.executable).parent}
os.environ.update(PYTHONSAFEPATH="1")  # imports nothing from the run's folder
IS_JOB = "NSF_WORKFLOW" in os.environ  # on a cluster a job runs Snakemake too
os.environ.update(NSF_WORKFLOW=str(ROOT / "workflow"))  # for the rules' commands
for name, path in search.items():
    os.environ.update({name: f"{path}{os.pathsep}{os.environ.get(name, '')}".rstrip(os.pathsep)})


from nsf_pipeline.config import ConfigError, check_file, files_given
from nsf_pipeline.system.printing import complain

# Snakemake drops all but the last of what stands twice in a file of settings, without a word.
try:
    for file in filter(os.path.exists, [ROOT / "config.yaml", *files_given(sys.argv[1:])]):
        # As a module of another workflow, its files hold more than settings.
        check_file(file, plain=ROOT == Path(workflow.basedir))
except ConfigError as error:
    complain(str(error))
    sys.exit(1)


configfile: ROOT / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/parts.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/videos.smk"
include: "workflow/rules/ablations.smk"
include: "workflow/rules/scaling.smk"
include: "workflow/rules/planning.smk"
include: "workflow/rules/second_round.smk"
include: "workflow/rules/export.smk"
include: "workflow/rules/report.smk"


# Where Snakemake itself runs, not on a cluster's nodes: pages take no time, and nodes may have no network.
localrules:
    all,
    ablations,
    scaling,
    planning,
    second_round,
    export,
    table_page,
    ablation_page,
    scaling_page,
    planning_page,
    second_page,
    episode_page,
    video_page,
    settings_page,
    upload,


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        # Shards and parts too, so that a lost one is made again.
        policies=all_shards(paths.POLICIES),
        rollouts=all_shards(paths.ROLLOUTS),
        statistics=expand(paths.STATISTICS, part=PARTS),
        parts=expand(paths.PART, part=PARTS),
        dataset=rules.dataset.output,
        picture=rules.picture.output,
        training=rules.train.output,
        ensembles=expand(rules.ensembles.output, shard=ENSEMBLES),
        evaluation=rules.evaluate.output,
        episodes=shards_of_rows(paths.EPISODES, SHORT_ROWS),
        planning=rules.short_planning.output if SHORT_ROWS else [],
        videos=expand(rules.videos.output, trajectory=VIDEOS),
        predictions=expand(rules.predictions.output, place=PREDICTIONS),
        pages=[rules.table_page.output, rules.settings_page.output],
        video_page=rules.video_page.output if VIDEOS + PREDICTIONS else [],
        upload=rules.upload.output if WANDB_MODE != "disabled" else [],
