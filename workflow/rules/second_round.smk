# A second round of data: a planner chooses policies with the trained flow; these are rolled out, join
# the data of the first round, and the flow is trained on both. Then it is compared with the first.


rule second_policies:
    input:
        stamp=second_stamp,
        model=paths.MODEL,
    output:
        policies=paths.of_second_round(paths.POLICIES),
    log:
        log_of("second_round/policies/{shard}"),
    benchmark:
        benchmark_of("second_round/policies/{shard}")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=with_shard(3000),
        runtime=raised(120),
    params:
        first=lambda wildcards: second_span(wildcards)[0],
        stop=lambda wildcards: second_span(wildcards)[1],
    shell:
        logged(
            "python -m nsf_pipeline second-policies --config {input.stamp:q} "
            "--model {input.model:q} --first {params.first} --stop {params.stop} "
            "--output {output.policies:q} --threads {threads}"
        )


use rule rollouts as second_rollouts with:
    input:
        stamp=stamp_of("rollouts"),
        policies=paths.of_second_round(paths.POLICIES),
    output:
        rollouts=paths.of_second_round(paths.ROLLOUTS),
    log:
        log_of("second_round/rollouts/{shard}"),
    benchmark:
        benchmark_of("second_round/rollouts/{shard}")
    params:
        first=lambda wildcards: second_span(wildcards)[0],
        stop=lambda wildcards: second_span(wildcards)[1],


rule second_dataset:
    input:
        stamp=stamp_of("second_dataset"),
        rollouts=all_shards(paths.ROLLOUTS),
        second=lambda wildcards: expand(paths.of_second_round(paths.ROLLOUTS), shard=SECOND_SHARDS),
    output:
        dataset=paths.of_second_round(paths.DATASET),
        metadata=paths.of_second_round(paths.METADATA),
    log:
        log_of("second_round/dataset"),
    benchmark:
        benchmark_of("second_round/dataset")
    conda:
        environment("simulation")
    threads: 1
    resources:
        mem_mb=with_shard(1000),
        runtime=raised(60),
    params:
        folder=lambda wildcards, input: Path(input.rollouts[0]).parent,
        second=lambda wildcards, input: Path(input.second[0]).parent,
    shell:
        logged(
            "python -m nsf_pipeline second-dataset --config {input.stamp:q} "
            "--rollouts {params.folder:q} --second {params.second:q} "
            "--output {output.dataset:q} --metadata {output.metadata:q}"
        )


use rule train as second_train with:
    input:
        stamp=stamp_of("second_train"),
        dataset=paths.of_second_round(paths.DATASET),
    output:
        model=paths.of_second_round(paths.MODEL),
        metrics=paths.of_second_round(paths.METRICS),
        curves=paths.of_second_round(paths.CURVES),
    log:
        log_of("second_round/train"),
    benchmark:
        benchmark_of("second_round/train")


rule second_tables:
    input:
        require_second_round,
        stamp=stamp_of("second_tables"),
        episodes=shards_of_rows(paths.EPISODES, SECOND_ROWS),
        times=shards_of_rows(paths.SECONDS, SECOND_ROWS),
        pushes=shards_of_worlds(paths.PUSHES, SECOND_WORLDS),
        push_times=shards_of_worlds(paths.PUSH_SECONDS, SECOND_WORLDS),
    output:
        **{name: f"{paths.PLANNING}/{file}" for name, file in paths.SECOND.items()},
    log:
        log_of("second_round/tables"),
    benchmark:
        benchmark_of("second_round/tables")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(2000),
        runtime=raised(10),
    params:
        folder=subpath(output.table, parent=True),
        episodes=lambda wildcards, input: Path(input.episodes[0]).parent.parent,
        times=lambda wildcards, input: Path(input.times[0]).parent.parent,
        pushes=lambda wildcards, input: Path(input.pushes[0]).parent.parent,
        push_times=lambda wildcards, input: Path(input.push_times[0]).parent.parent,
    shell:
        logged(
            "python -m nsf_pipeline second-round --config {input.stamp:q} "
            "--episodes {params.episodes:q} --times {params.times:q} --pushes {params.pushes:q} "
            "--push-times {params.push_times:q} --output {params.folder:q}"
        )


rule second_round:
    input:
        require_second_round,
        policies=lambda wildcards: expand(
            paths.of_second_round(paths.POLICIES), shard=SECOND_SHARDS
        ),
        rollouts=lambda wildcards: expand(
            paths.of_second_round(paths.ROLLOUTS), shard=SECOND_SHARDS
        ),
        training=rules.second_train.output,
        tables=rules.second_tables.output,
        page=paths.PAGE.format(page="second_round"),
