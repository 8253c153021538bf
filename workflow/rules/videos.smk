# Videos of trajectories as they were simulated, and beside the model's predictions of them.


rule videos:
    input:
        stamp=video_stamp,
        source=source_of,
    output:
        video=paths.VIDEO,
    log:
        log_of("videos/{trajectory}"),
    benchmark:
        benchmark_of("videos/{trajectory}")
    conda:
        environment("simulation")
    threads: 1
    resources:
        mem_mb=raised(1000),
        runtime=raised(10),
    params:
        trajectory=lambda wildcards: wildcards.trajectory.lstrip("0") or "0",
    shell:
        logged(
            "python -m nsf_pipeline video --config {input.stamp:q} --source {input.source:q} "
            "--trajectory {params.trajectory} --output {output.video:q}"
        )


rule predictions:
    input:
        stamp=stamp_of("prediction"),
        model=paths.MODEL,
        dataset=paths.DATASET,
    output:
        video=paths.PREDICTION,
    log:
        log_of("videos/predicted/test_{place}"),
    benchmark:
        benchmark_of("videos/predicted/test_{place}")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(4000),
        runtime=raised(10),
    params:
        place=lambda wildcards: wildcards.place.lstrip("0") or "0",
    shell:
        logged(
            "python -m nsf_pipeline predicted-video --config {input.stamp:q} "
            "--model {input.model:q} --dataset {input.dataset:q} --place {params.place} "
            "--output {output.video:q} --threads {threads}"
        )
