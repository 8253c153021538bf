rule dataset:
    input:
        rollouts=expand("results/rollouts/{shard}.h5", shard=SHARDS),
    output:
        dataset="results/dataset.h5",
        metadata="results/dataset.meta.json",
    log:
        "results/logs/dataset.log",
    benchmark:
        "results/benchmarks/dataset.tsv"
    conda:
        "../../envs/simulation.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=60,
    params:
        config=settings_of("dataset"),
        code=code_of("dataset"),
        # The shards' folder, so that the command stays short however many there are.
        folder=lambda wildcards, input: Path(input.rollouts[0]).parent,
    shell:
        "(set -x; python -m nsf_pipeline dataset --config {params.config:q} --rollouts {params.folder:q} "
        "--output {output.dataset:q} --metadata {output.metadata:q}) 2>&1 | tee {log:q}"
