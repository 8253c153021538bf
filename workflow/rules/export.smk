# The data set for other people's tools; on request: `snakemake export`.


rule export_format:
    input:
        stamp=export_stamp,
        dataset=paths.DATASET,
    output:
        folder=directory(paths.EXPORT),
    log:
        log_of("exports/{format}"),
    benchmark:
        benchmark_of("exports/{format}")
    conda:
        environment("exports")
    threads: all_cores
    resources:
        mem_mb=raised(4000),
        runtime=raised(240),
    params:
        chosen=EXPORTED,
    shell:
        logged(
            "python -m nsf_pipeline export --config {input.stamp:q} --dataset {input.dataset:q} "
            "--format {wildcards.format} {params.chosen} --output {output.folder:q} "
            "--jobs {threads}"
        )


rule export:
    input:
        expand(paths.EXPORT, format=SETTINGS.exports.formats),
