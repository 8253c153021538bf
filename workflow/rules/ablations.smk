# The variants beside the default model: the same tables and figures, and what each costs.
MODELS = {name: f"results/variants/{name}/model.eqx" for name in VARIANTS}
# Flows cost what the default one costs.
SOLVED = {name: MODELS[name] for name in VARIANTS if SETTINGS.variant(name).model.kind != "flow"}


rule compare:
    input:
        model="results/model.eqx",
        variants=list(MODELS.values()),
        dataset="results/dataset.h5",
        ensembles=expand("results/ensembles/{shard}.h5", shard=ENSEMBLES),
    output:
        table=report(
            "results/ablations/horizons.csv",
            caption="../report/horizons.rst",
            category="Ablations",
            labels={"result": "Scores (CSV, to download)"},
        ),
        text="results/ablations/horizons.md",
        intervals="results/ablations/intervals.csv",
        distances=report(
            "results/ablations/distances.csv",
            caption="../report/distances.rst",
            category="Ablations",
            labels={"result": "Joint scores (CSV, to download)"},
        ),
        ranks="results/ablations/calibration.csv",
        consistency=report(
            "results/ablations/consistency.csv",
            caption="../report/consistency.rst",
            category="Ablations",
            labels={"result": "Flow consistency (CSV, to download)"},
        ),
        skill=report(
            "results/ablations/skill.png",
            caption="../report/skill.rst",
            category="Ablations",
            labels={"result": "Skill against horizon"},
        ),
        calibration="results/ablations/calibration.png",
        figure="results/ablations/block_positions.png",
        provenance="results/ablations/provenance.json",
    log:
        "results/logs/compare.log",
    benchmark:
        "results/benchmarks/compare.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 16
    resources:
        mem_mb=8000,
        runtime=120,
    params:
        config=settings_of("compare"),
        code=code_of("compare"),
        folder=lambda wildcards, output: Path(output.table).parent,
        ensembles=lambda wildcards, input: Path(input.ensembles[0]).parent,
        variants=options_of(MODELS),
    shell:
        "(set -x; python -m nsf_pipeline evaluate --config {params.config:q} --model {input.model:q} "
        "--ablations {params.variants:q} --dataset {input.dataset:q} --ensembles {params.ensembles:q} "
        "--output {params.folder:q} --threads {threads}) "
        "2>&1 | tee {log:q}"


rule speed:
    input:
        model="results/model.eqx",
        variants=list(SOLVED.values()),
        dataset="results/dataset.h5",
        table="results/ablations/horizons.csv",
    output:
        table=report(
            "results/ablations/speed.csv",
            caption="../report/speed.rst",
            category="Ablations",
            labels={"result": "Cost (CSV, to download)"},
        ),
        text="results/ablations/speed.md",
        figure=report(
            "results/ablations/accuracy_against_cost.png",
            caption="../report/accuracy_against_cost.rst",
            category="Ablations",
            labels={"result": "Accuracy against cost"},
        ),
        provenance="results/ablations/speed.json",
    log:
        "results/logs/speed.log",
    benchmark:
        "results/benchmarks/speed.tsv"
    conda:
        "../../envs/pipeline.yaml"
    # All there are, so that nothing runs beside it; a report or a cluster is given none.
    threads: workflow.resource_settings.cores or 16
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        config=settings_of("speed"),
        code=code_of("speed"),
        folder=lambda wildcards, output: Path(output.table).parent,
        variants=options_of(SOLVED),
    shell:
        "(set -x; python -m nsf_pipeline speed --config {params.config:q} --model {input.model:q} "
        "{params.variants:q} --dataset {input.dataset:q} --scores {input.table:q} "
        "--output {params.folder:q} --threads {threads}) "
        "2>&1 | tee {log:q}"


use rule table_page as ablation_page with:
    input:
        tables=["results/ablations/horizons.md", "results/ablations/speed.md"],
    output:
        page=report(
            "results/report/ablations.html",
            caption="../report/tables.rst",
            category="Ablations",
            labels={"result": "Tables"},
        ),
    log:
        "results/logs/report/ablations.log",
    benchmark:
        "results/benchmarks/report/ablations.tsv"
    params:
        config=settings_of("ablation_page"),
        code=code_of("ablation_page"),
        kind="--ablations",


rule ablations:
    input:
        rules.compare.output,
        rules.speed.output,
        rules.ablation_page.output,
