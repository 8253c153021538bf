rule train:
    input:
        dataset="results/dataset.h5",
        metadata="results/dataset.meta.json",
    output:
        model="results/model.eqx",
        metrics="results/training/metrics.csv",
        curves=report(
            "results/training/curves.png",
            caption="../report/curves.rst",
            category="Training",
            labels={"result": "Curves"},
        ),
    log:
        "results/logs/train.log",
    benchmark:
        "results/benchmarks/train.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 16
    resources:
        mem_mb=8000,
        runtime=240,
        # How training runs makes no model stale, so these are no parameters.
        checkpoint_seconds=f"{SETTINGS.runtime.checkpoint_seconds:g}",
        data_memory=f"{SETTINGS.runtime.data_memory:g}",
    params:
        config=settings_of("train"),
        code=code_of("train"),
    shell:
        # The bar is for whoever watches, not for the log.
        "(set -x; python -m nsf_pipeline train --config {params.config:q} --dataset {input.dataset:q} "
        "--output {output.model:q} --metrics {output.metrics:q} --curves {output.curves:q} "
        "--checkpoint-seconds {resources.checkpoint_seconds} "
        "--data-memory {resources.data_memory} --threads {threads} --bar 3) "
        "3>&2 2>&1 | tee {log:q}"


# The same for a variant, on the same data.
use rule train as train_variant with:
    output:
        model="results/variants/{variant}/model.eqx",
        metrics="results/variants/{variant}/training/metrics.csv",
        curves="results/variants/{variant}/training/curves.png",
    log:
        "results/logs/variants/{variant}.log",
    benchmark:
        "results/benchmarks/variants/{variant}.tsv"
    params:
        config=lambda wildcards: settings_of("train", wildcards.variant),
        code=code_of("train"),
