rule evaluate:
    input:
        model="results/model.eqx",
        dataset="results/dataset.h5",
        ensembles=expand("results/ensembles/{shard}.h5", shard=ENSEMBLES),
    output:
        table=report(
            "results/evaluation/horizons.csv",
            caption="../report/horizons.rst",
            category="Evaluation",
            labels={"result": "Scores (CSV, to download)"},
        ),
        text="results/evaluation/horizons.md",
        intervals="results/evaluation/intervals.csv",
        distances=report(
            "results/evaluation/distances.csv",
            caption="../report/distances.rst",
            category="Evaluation",
            labels={"result": "Joint scores (CSV, to download)"},
        ),
        ranks="results/evaluation/calibration.csv",
        consistency="results/evaluation/consistency.csv",
        skill=report(
            "results/evaluation/skill.png",
            caption="../report/skill.rst",
            category="Evaluation",
            labels={"result": "Skill against horizon"},
        ),
        calibration=report(
            "results/evaluation/calibration.png",
            caption="../report/calibration.rst",
            category="Evaluation",
            labels={"result": "Calibration"},
        ),
        figure=report(
            "results/evaluation/block_positions.png",
            caption="../report/block_positions.rst",
            category="Evaluation",
            labels={"result": "Block positions"},
        ),
        provenance="results/evaluation/provenance.json",
    log:
        "results/logs/evaluate.log",
    benchmark:
        "results/benchmarks/evaluate.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 16
    resources:
        mem_mb=8000,
        runtime=60,
    params:
        config=settings_of("evaluate"),
        code=code_of("evaluate"),
        folder=lambda wildcards, output: Path(output.table).parent,
        ensembles=lambda wildcards, input: Path(input.ensembles[0]).parent,
    shell:
        "(set -x; python -m nsf_pipeline evaluate --config {params.config:q} --model {input.model:q} "
        "--dataset {input.dataset:q} --ensembles {params.ensembles:q} --output {params.folder:q} "
        "--threads {threads}) "
        "2>&1 | tee {log:q}"
