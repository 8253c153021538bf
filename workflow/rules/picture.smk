rule picture:
    input:
        dataset="results/dataset.h5",
    output:
        figure=report(
            "results/dataset.png",
            caption="../report/picture.rst",
            category="Data",
            labels={"result": "Picture of the data set"},
        ),
    log:
        "results/logs/picture.log",
    benchmark:
        "results/benchmarks/picture.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_of("picture"),
    shell:
        "(set -x; python -m nsf_pipeline picture --dataset {input.dataset:q} "
        "--output {output.figure:q}) 2>&1 | tee {log:q}"
