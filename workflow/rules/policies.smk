rule policies:
    output:
        policies="results/policies/{shard}.h5",
    log:
        "results/logs/policies/{shard}.log",
    benchmark:
        "results/benchmarks/policies/{shard}.tsv"
    conda:
        "../../envs/simulation.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        config=settings_of("policies"),
        code=code_of("policies"),
        first=lambda wildcards: SETTINGS.shard_range(int(wildcards.shard))[0],
        stop=lambda wildcards: SETTINGS.shard_range(int(wildcards.shard))[1],
    shell:
        "(set -x; python -m nsf_pipeline policies --config {params.config:q} --first {params.first} "
        "--stop {params.stop} --output {output.policies:q}) 2>&1 | tee {log:q}"
