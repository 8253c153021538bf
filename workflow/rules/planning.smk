# Planning put to the test: episodes in gym-pusht's own environment, and tables of them.


def span_of(wildcards):
    """The number of the first episode of a shard, and one past its last; of no row, or no shard of it, a clear error."""
    shards = protocol_rows.shards(ROWS[wildcards.row], SETTINGS.protocols)
    return shards[int(wildcards.shard)]


def stage_of(name, trained):
    """The stage of a trial, which depends on the trained model behind it; empty for none."""
    kinds = {"": "untrained_", protocol_rows.SECOND_ROUND: "second_"}
    return STAGES[f"{kinds.get(trained, '')}{name}"]


def model_of(trained):
    """The file of a trained model; none if there is none."""
    if trained == protocol_rows.SECOND_ROUND:
        return paths.of_second_round(paths.MODEL)
    return paths.of_variant(paths.MODEL, trained if trained in VARIANTS else "") if trained else []


def episode_stamp(wildcards):
    """The stamp of a shard of episodes. It depends on their number, which may be less in the last."""
    first, stop = span_of(wildcards)
    trained = ROWS[wildcards.row].trained
    of = {"variant": trained} if trained in VARIANTS else {"part": str(stop - first)}
    return stamp(
        stage_of("episodes", trained),
        **of,
        episodes=stop - first,
        first_seed=SETTINGS.protocols.first_seed,
    )


def trained_model(wildcards):
    """The model of a row; none if it plans without a trained one."""
    return model_of(ROWS[wildcards.row].trained)


def shards_of_rows(path, rows):
    """A file of every shard of some rows."""
    return [
        path.format(row=name, shard=paths.shard_name(shard))
        for name, row in rows.items()
        for shard in range(len(protocol_rows.shards(row, SETTINGS.protocols)))
    ]


rule episodes:
    input:
        stamp=episode_stamp,
        model=trained_model,
    output:
        episodes=paths.EPISODES,
        seconds=paths.SECONDS,
    log:
        log_of("episodes/{row}/{shard}"),
    benchmark:
        benchmark_of("episodes/{row}/{shard}")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(2000),
        runtime=raised(60),
    params:
        row=lambda wildcards: [
            f"--planner={ROWS[wildcards.row].planner}",
            f"--world-model={ROWS[wildcards.row].model}",
            f"--noise={ROWS[wildcards.row].action_noise_std:g}",
            f"--variation={ROWS[wildcards.row].variation}",
        ],
        first=lambda wildcards: span_of(wildcards)[0],
        stop=lambda wildcards: span_of(wildcards)[1],
        first_seed=SETTINGS.protocols.first_seed,
        model=lambda wildcards, input: [f"--model={input.model}"] if input.model else [],
    shell:
        logged(
            "python -m nsf_pipeline episodes --config {input.stamp:q} {params.model:q} "
            "{params.row:q} --first {params.first} --stop {params.stop} "
            "--first-seed {params.first_seed} --output {output.episodes:q} "
            "--seconds {output.seconds:q} --threads {threads}"
        )


rule short_planning:
    input:
        stamp=stamp_of("short_planning"),
        episodes=shards_of_rows(paths.EPISODES, SHORT_ROWS),
        times=shards_of_rows(paths.SECONDS, SHORT_ROWS),
    output:
        **{name: f"{paths.PLANNING}/{file}" for name, file in paths.PLANNED_SHORT.items()},
    log:
        log_of("short_planning"),
    benchmark:
        benchmark_of("short_planning")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(2000),
        runtime=raised(10),
    params:
        verb="short-planning",
        folder=paths.PLANNING,
        episodes=lambda wildcards, input: Path(input.episodes[0]).parent.parent,
        times=lambda wildcards, input: Path(input.times[0]).parent.parent,
    shell:
        logged(
            "python -m nsf_pipeline {params.verb} --config {input.stamp:q} "
            "--episodes {params.episodes:q} --times {params.times:q} --output {params.folder:q}"
        )


use rule short_planning as planning_tables with:
    input:
        stamp=stamp_of("planning_tables"),
        episodes=shards_of_rows(paths.EPISODES, {**STANDARD_ROWS, **HARDER_ROWS}),
        times=shards_of_rows(paths.SECONDS, {**STANDARD_ROWS, **HARDER_ROWS}),
    output:
        **{name: f"{paths.PLANNING}/{file}" for name, file in paths.PLANNED.items()},
    log:
        log_of("planning_tables"),
    benchmark:
        benchmark_of("planning_tables")
    params:
        verb="planning-tables",
        folder=paths.PLANNING,
        episodes=lambda wildcards, input: Path(input.episodes[0]).parent.parent,
        times=lambda wildcards, input: Path(input.times[0]).parent.parent,


def push_stamp(wildcards):
    """The stamp of a shard of one push."""
    first, stop = PUSHES[int(wildcards.shard)]
    trained = protocol_rows.trained(wildcards.world)
    of = {"variant": trained} if trained in VARIANTS else {"part": str(stop - first)}
    return stamp(
        stage_of("pushes", trained),
        **of,
        tasks=stop - first,
        candidates=SETTINGS.protocols.push_candidates,
        runs=SETTINGS.protocols.push_runs,
        noise=SETTINGS.protocols.push_noise,
    )


def pushing_model(wildcards):
    """The trained model that chooses; none if there is none."""
    return model_of(protocol_rows.trained(wildcards.world))


def shards_of_worlds(path, worlds=WORLDS):
    """A file of every shard of every model that chooses one push."""
    shards = [paths.shard_name(shard) for shard in range(len(PUSHES))]
    return expand(path, world=worlds, shard=shards)


rule pushes:
    input:
        stamp=push_stamp,
        model=pushing_model,
        dataset=paths.DATASET,
    output:
        pushes=paths.PUSHES,
        seconds=paths.PUSH_SECONDS,
    log:
        log_of("pushes/{world}/{shard}"),
    benchmark:
        benchmark_of("pushes/{world}/{shard}")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(2000),
        runtime=raised(120),
    params:
        first=lambda wildcards: PUSHES[int(wildcards.shard)][0],
        stop=lambda wildcards: PUSHES[int(wildcards.shard)][1],
        trial=[
            f"--noise={SETTINGS.protocols.push_noise:g}",
            f"--candidates={SETTINGS.protocols.push_candidates}",
            f"--runs={SETTINGS.protocols.push_runs}",
        ],
        model=lambda wildcards, input: [f"--model={input.model}"] if input.model else [],
    shell:
        logged(
            "python -m nsf_pipeline pushes --config {input.stamp:q} {params.model:q} "
            "--dataset {input.dataset:q} --world-model {wildcards.world} {params.trial:q} "
            "--first {params.first} --stop {params.stop} --output {output.pushes:q} "
            "--seconds {output.seconds:q} --threads {threads}"
        )


rule push_tables:
    input:
        stamp=stamp_of("push_tables"),
        pushes=shards_of_worlds(paths.PUSHES),
        times=shards_of_worlds(paths.PUSH_SECONDS),
    output:
        **{name: f"{paths.PLANNING}/{file}" for name, file in paths.PUSHED.items()},
    log:
        log_of("push_tables"),
    benchmark:
        benchmark_of("push_tables")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(2000),
        runtime=raised(10),
    params:
        folder=paths.PLANNING,
        pushes=lambda wildcards, input: Path(input.pushes[0]).parent.parent,
        times=lambda wildcards, input: Path(input.times[0]).parent.parent,
    shell:
        logged(
            "python -m nsf_pipeline push-tables --config {input.stamp:q} "
            "--pushes {params.pushes:q} --times {params.times:q} --output {params.folder:q}"
        )


def goal_stamp(wildcards):
    """The stamp of a row's tasks with a goal some steps ahead."""
    trained = GOAL_ROWS[wildcards.goal_row].trained
    of = {"variant": trained} if trained in VARIANTS else {}
    return stamp(stage_of("goals", trained), **of, tasks=SETTINGS.protocols.goal_tasks)


def goal_model(wildcards):
    """The trained model of a row; none if there is none."""
    return model_of(GOAL_ROWS[wildcards.goal_row].trained)


rule goals:
    input:
        stamp=goal_stamp,
        model=goal_model,
        dataset=paths.DATASET,
    output:
        goals=paths.GOALS,
        seconds=paths.GOAL_SECONDS,
    log:
        log_of("goals/{goal_row}/{shard}"),
    benchmark:
        benchmark_of("goals/{goal_row}/{shard}")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(2000),
        runtime=raised(60),
    params:
        row=lambda wildcards: [
            f"--planner={GOAL_ROWS[wildcards.goal_row].planner}",
            f"--world-model={GOAL_ROWS[wildcards.goal_row].model}",
            f"--steps={GOAL_ROWS[wildcards.goal_row].steps}",
        ],
        stop=SETTINGS.protocols.goal_tasks,
        model=lambda wildcards, input: [f"--model={input.model}"] if input.model else [],
    shell:
        logged(
            "python -m nsf_pipeline goals --config {input.stamp:q} {params.model:q} "
            "--dataset {input.dataset:q} {params.row:q} --stop {params.stop} "
            "--output {output.goals:q} --seconds {output.seconds:q} --threads {threads}"
        )


rule goal_tables:
    input:
        stamp=stamp_of("goal_tables"),
        goals=expand(paths.GOALS, goal_row=GOAL_ROWS, shard="00000"),
        times=expand(paths.GOAL_SECONDS, goal_row=GOAL_ROWS, shard="00000"),
    output:
        **{name: f"{paths.PLANNING}/{file}" for name, file in paths.REACHED.items()},
    log:
        log_of("goal_tables"),
    benchmark:
        benchmark_of("goal_tables")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(2000),
        runtime=raised(10),
    params:
        folder=paths.PLANNING,
        goals=lambda wildcards, input: Path(input.goals[0]).parent.parent,
        times=lambda wildcards, input: Path(input.times[0]).parent.parent,
    shell:
        logged(
            "python -m nsf_pipeline goal-tables --config {input.stamp:q} "
            "--goals {params.goals:q} --times {params.times:q} --output {params.folder:q}"
        )


rule planning:
    input:
        expand(paths.GOALS, goal_row=GOAL_ROWS, shard="00000"),
        rules.goal_tables.output,
        # Shards too, so that a lost one is made again.
        shards_of_rows(paths.EPISODES, PLANNED_ROWS),
        shards_of_worlds(paths.PUSHES),
        rules.push_tables.output,
        rules.short_planning.output if SHORT_ROWS else [],
        rules.planning_tables.output,
