rule train:
    input:
        dataset="results/dataset.h5",
        metadata="results/dataset.meta.json",
    output:
        model="results/model.eqx",
        metrics="results/training/metrics.csv",
    log:
        "results/logs/train.log",
    benchmark:
        "results/benchmarks/train.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 16
    resources:
        mem_mb=8000,
        runtime=240,
    params:
        config=settings_of("train"),
        code=code_of("train"),
    shell:
        "(set -x; python -m nsf_pipeline train --config {params.config:q} --dataset {input.dataset:q} "
        "--output {output.model:q} --metrics {output.metrics:q} --threads {threads}) "
        "2>&1 | tee {log:q}"
