rule train:
    input:
        stamp=stamp_of("train"),
        dataset=paths.DATASET,
    output:
        model=paths.MODEL,
        metrics=paths.METRICS,
        curves=report(
            paths.CURVES,
            caption="../report/curves.rst",
            category="Training",
            labels={"result": "Curves"},
        ),
    log:
        log_of("train"),
    benchmark:
        benchmark_of("train")
    conda:
        environment("pipeline")
    threads: training_cores
    resources:
        mem_mb=raised(8000),
        runtime=raised(240),
        # As resources these change no stamp or parameter, so that a change does not rerun the job.
        checkpoint_seconds=SETTINGS.runtime.checkpoint_seconds,
        data_memory=SETTINGS.runtime.data_memory,
    params:
        variant=[],
    shell:
        logged(
            # The progress bar goes to the terminal, not to the log.
            "python -m nsf_pipeline train --config {input.stamp:q} {params.variant} "
            "--dataset {input.dataset:q} --output {output.model:q} --metrics {output.metrics:q} "
            "--curves {output.curves:q} --checkpoint-seconds {resources.checkpoint_seconds} "
            "--data-memory {resources.data_memory} --threads {threads} --bar 3"
        )


# The same for a variant of the model, on the same data.
use rule train as train_variant with:
    input:
        stamp=training_stamp,
        dataset=paths.DATASET,
    output:
        model=paths.of_variant(paths.MODEL, "{variant}"),
        metrics=paths.of_variant(paths.METRICS, "{variant}"),
        curves=paths.of_variant(paths.CURVES, "{variant}"),
    log:
        log_of("variants/{variant}"),
    benchmark:
        benchmark_of("variants/{variant}")
    params:
        variant="--variant {variant}",
