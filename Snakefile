# The chain: policies -> rollouts -> dataset -> train and ensembles -> evaluate; pictures, videos and a report
# beside it; `ablations` trains and compares variants of the model.
import html
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

# Jobs run `python -m nsf_pipeline` with this interpreter and this checkout, wherever they run.
ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))
search = {"PYTHONPATH": ROOT, "PATH": Path(sys.executable).parent}
os.environ.update(PYTHONSAFEPATH="1")  # imports nothing from the run's folder
for name, path in search.items():
    os.environ.update({name: f"{path}{os.pathsep}{os.environ.get(name, '')}".rstrip(os.pathsep)})


configfile: ROOT / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/data.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/videos.smk"
include: "workflow/rules/ablations.smk"
include: "workflow/rules/report.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        # Shards too, so that a lost one is made again.
        policies=expand(rules.policies.output, shard=SHARDS),
        rollouts=expand(rules.rollouts.output, shard=SHARDS),
        dataset=rules.dataset.output,
        picture=rules.picture.output,
        training=rules.train.output,
        ensembles=expand(rules.ensembles.output, shard=ENSEMBLES),
        evaluation=rules.evaluate.output,
        videos=expand(rules.videos.output, trajectory=VIDEOS),
        predictions=expand(rules.predictions.output, place=PREDICTIONS),
        pages=[rules.table_page.output, rules.settings_page.output],
        video_page=rules.video_page.output if VIDEOS + PREDICTIONS else [],
        upload=rules.upload.output if WANDB_MODE != "disabled" else [],
