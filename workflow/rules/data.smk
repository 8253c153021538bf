# From the settings to the data set and its picture.


rule policies:
    input:
        stamp=policy_stamp,
    output:
        policies=paths.POLICIES,
    log:
        log_of("policies/{shard}"),
    benchmark:
        benchmark_of("policies/{shard}")
    conda:
        environment("simulation")
    threads: 1
    resources:
        mem_mb=with_shard(500),
        runtime=raised(10),
    params:
        first=lambda wildcards: SETTINGS.shard_range(int(wildcards.shard))[0],
        stop=lambda wildcards: SETTINGS.shard_range(int(wildcards.shard))[1],
    shell:
        logged(
            "python -m nsf_pipeline policies --config {input.stamp:q} --first {params.first} "
            "--stop {params.stop} --output {output.policies:q}"
        )


rule rollouts:
    input:
        stamp=stamp_of("rollouts"),
        policies=paths.POLICIES,
    output:
        rollouts=paths.ROLLOUTS,
    log:
        log_of("rollouts/{shard}"),
    benchmark:
        benchmark_of("rollouts/{shard}")
    conda:
        environment("simulation")
    threads: 1
    resources:
        mem_mb=with_shard(1000),
        runtime=raised(30),
    params:
        first=lambda wildcards: SETTINGS.shard_range(int(wildcards.shard))[0],
        stop=lambda wildcards: SETTINGS.shard_range(int(wildcards.shard))[1],
    shell:
        logged(
            "python -m nsf_pipeline rollouts --config {input.stamp:q} --policies {input.policies:q} "
            "--first {params.first} --stop {params.stop} "
            "--output {output.rollouts:q}"
        )


rule dataset:
    input:
        stamp=stamp_of("dataset"),
        rollouts=all_shards(paths.ROLLOUTS),
    output:
        dataset=paths.DATASET,
        metadata=paths.METADATA,
    log:
        log_of("dataset"),
    benchmark:
        benchmark_of("dataset")
    conda:
        environment("simulation")
    threads: 1
    resources:
        mem_mb=with_shard(1000),
        runtime=raised(60),
    params:
        # The shards' folder, so that the command stays short however many there are.
        folder=lambda wildcards, input: Path(input.rollouts[0]).parent,
    shell:
        logged(
            "python -m nsf_pipeline dataset --config {input.stamp:q} --rollouts {params.folder:q} "
            "--output {output.dataset:q} --metadata {output.metadata:q}"
        )


rule picture:
    input:
        stamp=stamp_of("picture"),
        dataset=paths.DATASET,
    output:
        figure=report(
            paths.PICTURE,
            caption="../report/picture.rst",
            category="Data",
            labels={"result": "Picture of the data set"},
        ),
    log:
        log_of("picture"),
    benchmark:
        benchmark_of("picture")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(1000),
        runtime=raised(10),
    shell:
        logged(
            "python -m nsf_pipeline picture --config {input.stamp:q} --dataset {input.dataset:q} "
            "--output {output.figure:q}"
        )
