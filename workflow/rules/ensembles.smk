rule ensembles:
    input:
        dataset="results/dataset.h5",
    output:
        ensembles="results/ensembles/{shard}.h5",
    log:
        "results/logs/ensembles/{shard}.log",
    benchmark:
        "results/benchmarks/ensembles/{shard}.tsv"
    conda:
        "../../envs/simulation.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        config=settings_of("ensembles"),
        code=code_of("ensembles"),
        shard=lambda wildcards: int(wildcards.shard),
        folder=lambda wildcards, output: Path(output.ensembles).parent,
    shell:
        "(set -x; python -m nsf_pipeline ensembles --config {params.config:q} --dataset {input.dataset:q} "
        "--shard {params.shard} --output {params.folder:q}) 2>&1 | tee {log:q}"
