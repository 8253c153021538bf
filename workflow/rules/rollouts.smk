rule rollouts:
    input:
        policies="results/policies/{shard}.h5",
    output:
        rollouts="results/rollouts/{shard}.h5",
    log:
        "results/logs/rollouts/{shard}.log",
    benchmark:
        "results/benchmarks/rollouts/{shard}.tsv"
    conda:
        "../../envs/simulation.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=30,
    params:
        config=settings_of("rollouts"),
        code=code_of("rollouts"),
    shell:
        "(set -x; python -m nsf_pipeline rollouts --config {params.config:q} --policies {input.policies:q} "
        "--output {output.rollouts:q}) 2>&1 | tee {log:q}"
