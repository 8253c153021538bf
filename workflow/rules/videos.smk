rule videos:
    input:
        source=holder_of,
    output:
        video="results/videos/{trajectory}.mp4",
    log:
        "results/logs/videos/{trajectory}.log",
    benchmark:
        "results/benchmarks/videos/{trajectory}.tsv"
    conda:
        "../../envs/simulation.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_of("videos"),
        trajectory=lambda wildcards: wildcards.trajectory.lstrip("0") or "0",
    shell:
        "(set -x; python -m nsf_pipeline video --source {input.source:q} "
        "--trajectory {params.trajectory} --output {output.video:q}) 2>&1 | tee {log:q}"
