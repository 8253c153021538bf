rule evaluate:
    input:
        model="results/model.eqx",
        dataset="results/dataset.h5",
    output:
        table=report(
            "results/evaluation/horizons.csv",
            caption="../report/horizons.rst",
            category="Evaluation",
            labels={"result": "Scores (CSV, to download)"},
        ),
        text="results/evaluation/horizons.md",
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
    shell:
        "(set -x; python -m nsf_pipeline evaluate --config {params.config:q} --model {input.model:q} "
        "--dataset {input.dataset:q} --output {params.folder:q} --threads {threads}) "
        "2>&1 | tee {log:q}"
