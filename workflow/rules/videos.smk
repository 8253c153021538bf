rule videos:
    input:
        rollouts=shard_of,
    output:
        video=report(
            "results/videos/{trajectory}.mp4",
            caption="../report/videos.rst",
            category="Videos",
        ),
    params:
        code=code_of("videos"),
        trajectory=lambda wildcards: int(wildcards.trajectory),
    log:
        "results/logs/videos/{trajectory}.log",
    benchmark:
        "results/benchmarks/videos/{trajectory}.tsv"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    conda:
        "../../envs/simulation.yaml"
    shell:
        "python -m nsf_pipeline video --rollouts {input.rollouts:q} "
        "--trajectory {params.trajectory} --output {output.video:q} 2>&1 | tee {log:q}"
