# The model compared with the simulator itself.
rule ensembles:
    input:
        stamp=stamp_of("ensembles"),
        dataset=paths.DATASET,
    output:
        ensembles=paths.ENSEMBLES,
    log:
        log_of("ensembles/{shard}"),
    benchmark:
        benchmark_of("ensembles/{shard}")
    conda:
        environment("simulation")
    threads: 1
    resources:
        mem_mb=raised(1000),
        runtime=raised(30),
    params:
        shard=lambda wildcards: int(wildcards.shard),
        folder=subpath(output.ensembles, parent=True),
    shell:
        logged(
            "python -m nsf_pipeline ensembles --config {input.stamp:q} --dataset {input.dataset:q} "
            "--shard {params.shard} --output {params.folder:q}"
        )


rule evaluate:
    input:
        stamp=stamp_of("evaluate"),
        model=paths.MODEL,
        dataset=paths.DATASET,
        ensembles=expand(paths.ENSEMBLES, shard=ENSEMBLES),
    output:
        **scores_in(
            paths.EVALUATION,
            "Evaluation",
            *("table", "distances", "skill", "calibration", "figure"),
        ),
    log:
        log_of("evaluate"),
    benchmark:
        benchmark_of("evaluate")
    conda:
        environment("pipeline")
    threads: all_cores
    resources:
        mem_mb=raised(8000),
        runtime=raised(60),
    params:
        verb="evaluate",
        variants=[],
        folder=subpath(output.table, parent=True),
        ensembles=lambda wildcards, input: Path(input.ensembles[0]).parent,
    shell:
        logged(
            "python -m nsf_pipeline {params.verb} --config {input.stamp:q} --model {input.model:q} "
            "{params.variants:q} --dataset {input.dataset:q} --ensembles {params.ensembles:q} "
            "--output {params.folder:q} --threads {threads}"
        )


# Logs to the W&B run of the training; part of `all` unless W&B is disabled.
rule upload:
    input:
        stamp=stamp_of("upload", mode=WANDB_MODE),
        model=paths.MODEL,
        metrics=paths.METRICS,
        table=rules.evaluate.output.table,
        provenance=rules.evaluate.output.provenance,
        videos=expand(paths.VIDEO, trajectory=VIDEOS),
    output:
        run=paths.UPLOAD,
    log:
        log_of("upload"),
    benchmark:
        benchmark_of("upload")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(1000),
        runtime=raised(10),
    params:
        videos=lambda wildcards, input: [f"--video={path}" for path in input.videos],
    shell:
        logged(
            "python -m nsf_pipeline upload --config {input.stamp:q} --model {input.model:q} "
            "--metrics {input.metrics:q} --table {input.table:q} --provenance {input.provenance:q} "
            "{params.videos:q} "
            "--output {output.run:q}"
        )
