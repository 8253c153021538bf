# A data set of several files: the parts' statistics, from these its bounds, then the parts, scaled,
# and last their index. Rules that read the data set name the index alone: Snakemake would read all
# parts again for each file that such a rule makes, to note their checksums.
if PARTS:

    ruleorder: index > dataset
    ruleorder: metadata > dataset

    rule statistics:
        input:
            stamp=statistics_stamp,
            rollouts=shards_of,
        output:
            statistics=paths.STATISTICS,
        log:
            log_of("statistics/{part}"),
        benchmark:
            benchmark_of("statistics/{part}")
        conda:
            environment("simulation")
        threads: 1
        resources:
            mem_mb=with_shard(1000),
            runtime=raised(60),
        params:
            folder=lambda wildcards, input: Path(input.rollouts[0]).parent,
            first=lambda wildcards: SETTINGS.parts.shard_range(int(wildcards.part))[0],
            stop=lambda wildcards: SETTINGS.parts.shard_range(int(wildcards.part))[1],
        shell:
            logged(
                "python -m nsf_pipeline dataset-statistics --config {input.stamp:q} "
                "--rollouts {params.folder:q} --first {params.first} --stop {params.stop} "
                "--output {output.statistics:q}"
            )

    rule metadata:
        input:
            stamp=stamp_of("dataset"),
            statistics=expand(paths.STATISTICS, part=PARTS),
        output:
            metadata=paths.METADATA,
        log:
            log_of("metadata"),
        benchmark:
            benchmark_of("metadata")
        conda:
            environment("simulation")
        threads: 1
        resources:
            mem_mb=raised(1000),
            runtime=raised(10),
        params:
            folder=lambda wildcards, input: Path(input.statistics[0]).parent,
        shell:
            logged(
                "python -m nsf_pipeline dataset-metadata --config {input.stamp:q} "
                "--statistics {params.folder:q} --output {output.metadata:q}"
            )

    rule parts:
        input:
            stamp=stamp_of("dataset"),
            metadata=paths.METADATA,
            rollouts=shards_of,
        output:
            part=paths.PART,
        log:
            log_of("dataset/{part}"),
        benchmark:
            benchmark_of("dataset/{part}")
        conda:
            environment("simulation")
        threads: 1
        resources:
            mem_mb=with_shard(1000),
            runtime=raised(60),
        params:
            folder=lambda wildcards, input: Path(input.rollouts[0]).parent,
            part=lambda wildcards: int(wildcards.part),
        shell:
            logged(
                "python -m nsf_pipeline dataset-part --config {input.stamp:q} "
                "--rollouts {params.folder:q} --bounds {input.metadata:q} --part {params.part} "
                "--output {output.part:q}"
            )

    rule index:
        input:
            stamp=stamp_of("dataset"),
            parts=expand(paths.PART, part=PARTS),
        output:
            dataset=paths.DATASET,
        log:
            log_of("dataset"),
        benchmark:
            benchmark_of("dataset")
        conda:
            environment("simulation")
        threads: 1
        resources:
            mem_mb=raised(1000),
            runtime=raised(10),
        shell:
            logged(
                "python -m nsf_pipeline dataset-index --config {input.stamp:q} "
                "--output {output.dataset:q}"
            )
