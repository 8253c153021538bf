rule predictions:
    input:
        model="results/model.eqx",
        dataset="results/dataset.h5",
    output:
        video="results/videos/predicted/test_{place}.mp4",
    log:
        "results/logs/videos/predicted/test_{place}.log",
    benchmark:
        "results/benchmarks/videos/predicted/test_{place}.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=4000,
        runtime=10,
    params:
        code=code_of("predictions"),
        place=lambda wildcards: wildcards.place.lstrip("0") or "0",
    shell:
        "(set -x; python -m nsf_pipeline predicted-video --model {input.model:q} "
        "--dataset {input.dataset:q} --place {params.place} --output {output.video:q} "
        "--threads {threads}) 2>&1 | tee {log:q}"
