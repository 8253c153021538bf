# Models that differ from the default one in one setting, trained like variants, and their scores as curves.
SCALING_MODELS = {name: paths.of_variant(paths.MODEL, name) for name in POINTS}


use rule evaluate as scaling_curves with:
    input:
        require_scaling,
        stamp=stamp_of("scaling"),
        model=paths.MODEL,
        metrics=paths.METRICS,
        variants=[*SCALING_MODELS.values()],
        histories=[paths.of_variant(paths.METRICS, name) for name in POINTS],
        dataset=paths.DATASET,
        ensembles=expand(paths.ENSEMBLES, shard=ENSEMBLES),
    output:
        table=report(
            f"{paths.SCALING}/{paths.SCALED['table']}",
            caption="../report/scaling.rst",
            category="Scaling",
            labels={"result": "Curves (CSV, to download)"},
        ),
        text=f"{paths.SCALING}/{paths.SCALED['text']}",
        figure=report(
            f"{paths.SCALING}/{paths.SCALED['figure']}",
            caption="../report/scaling.rst",
            category="Scaling",
            labels={"result": "Curves"},
        ),
        provenance=f"{paths.SCALING}/{paths.SCALED['provenance']}",
    log:
        log_of("scaling"),
    benchmark:
        benchmark_of("scaling")
    resources:
        mem_mb=raised(8000),
        runtime=raised(120),
    params:
        verb="scaling",
        variants=options_of(SCALING_MODELS),
        folder=subpath(output.table, parent=True),
        ensembles=lambda wildcards, input: Path(input.ensembles[0]).parent,


rule scaling:
    input:
        rules.scaling_curves.output,
        paths.PAGE.format(page="scaling"),
