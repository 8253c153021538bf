# The chain: policies -> rollouts -> dataset -> train and ensembles -> evaluate; pictures, videos and a report
# beside it; `ablations` trains and compares variants of the model.
import os
import sys
from pathlib import Path

from snakemake.utils import min_version

min_version("9.20")

# Jobs run `python -m nsf_pipeline` with this interpreter and this checkout, wherever they run.
ROOT = Path(workflow.basedir)
sys.path.insert(0, str(ROOT))
paths = {"PYTHONPATH": ROOT, "PATH": Path(sys.executable).parent}
for name, path in paths.items():
    os.environ.update({name: f"{path}{os.pathsep}{os.environ.get(name, '')}".rstrip(os.pathsep)})


configfile: ROOT / "config.yaml"


include: "workflow/rules/common.smk"
include: "workflow/rules/recovery.smk"
include: "workflow/rules/policies.smk"
include: "workflow/rules/rollouts.smk"
include: "workflow/rules/dataset.smk"
include: "workflow/rules/picture.smk"
include: "workflow/rules/train.smk"
include: "workflow/rules/ensembles.smk"
include: "workflow/rules/evaluate.smk"
include: "workflow/rules/videos.smk"
include: "workflow/rules/predictions.smk"
include: "workflow/rules/pages.smk"
include: "workflow/rules/ablations.smk"


report: "workflow/report/workflow.rst"


rule all:
    default_target: True
    input:
        dataset=rules.dataset.output,
        picture=rules.picture.output,
        training=rules.train.output,
        ensembles=expand(rules.ensembles.output, shard=ENSEMBLES),
        evaluation=rules.evaluate.output,
        videos=VIDEOS + PREDICTIONS,
        pages=[rules.table_page.output, rules.settings_page.output],
        video_page=rules.video_page.output if VIDEOS + PREDICTIONS else [],
