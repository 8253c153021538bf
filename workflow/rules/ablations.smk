# The variants beside the default model: the same tables and figures, and the time that predictions take.
MODELS = {name: paths.of_variant(paths.MODEL, name) for name in VARIANTS}
# By path: where another workflow uses single rules, there is no `rules.compare`.
COMPARED = {name: f"{paths.ABLATIONS}/{file}" for name, file in paths.SCORES.items()}
# Only models of another kind, the user's classes among them, are timed: all flows take about as long as the default one.
SOLVED = {name: MODELS[name] for name in VARIANTS if SETTINGS.variant(name).model.kind != "flow"}


use rule evaluate as compare with:
    input:
        stamp=stamp_of("compare"),
        model=paths.MODEL,
        variants=[*MODELS.values()],
        dataset=paths.DATASET,
        ensembles=expand(paths.ENSEMBLES, shard=ENSEMBLES),
    output:
        **scores_in(paths.ABLATIONS, "Ablations", *("table", "distances", "consistency", "skill")),
    log:
        log_of("compare"),
    benchmark:
        benchmark_of("compare")
    resources:
        mem_mb=raised(8000),
        runtime=raised(120),
    params:
        verb="compare",
        variants=options_of(MODELS),
        folder=subpath(output.table, parent=True),
        ensembles=lambda wildcards, input: Path(input.ensembles[0]).parent,


rule speed:
    input:
        stamp=stamp_of("speed"),
        model=paths.MODEL,
        variants=[*SOLVED.values()],
        dataset=paths.DATASET,
        table=COMPARED["table"],
        provenance=COMPARED["provenance"],
    output:
        table=report(
            f"{paths.ABLATIONS}/{paths.SPEED['table']}",
            caption="../report/speed.rst",
            category="Ablations",
            labels={"result": "Cost (CSV, to download)"},
        ),
        text=f"{paths.ABLATIONS}/{paths.SPEED['text']}",
        figure=report(
            f"{paths.ABLATIONS}/{paths.SPEED['figure']}",
            caption="../report/accuracy_against_cost.rst",
            category="Ablations",
            labels={"result": "Accuracy against cost"},
        ),
        provenance=f"{paths.ABLATIONS}/{paths.SPEED['provenance']}",
    log:
        log_of("speed"),
    benchmark:
        benchmark_of("speed")
    conda:
        environment("pipeline")
    # All cores, so that no other job runs meanwhile.
    threads: all_cores
    resources:
        mem_mb=raised(8000),
        runtime=raised(60),
    params:
        variants=options_of(SOLVED),
        folder=subpath(output.table, parent=True),
    shell:
        logged(
            "python -m nsf_pipeline speed --config {input.stamp:q} --model {input.model:q} "
            "{params.variants:q} --dataset {input.dataset:q} --scores {input.table:q} "
            "--provenance {input.provenance:q} "
            "--output {params.folder:q} --threads {threads}"
        )


rule ablations:
    input:
        *COMPARED.values(),
        rules.speed.output,
        paths.PAGE.format(page="ablations"),
