# Planning put to the test: episodes in gym-pusht's own environment, and tables of them.


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
        mem_mb=with_searches(span_of),
        runtime=raised(60),
    params:
        row=lambda wildcards: [
            f"--planner={ROWS[wildcards.row].planner}",
            f"--world-model={ROWS[wildcards.row].model}",
            f"--noise={ROWS[wildcards.row].action_noise_std!r}",
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
        folder=subpath(output.table, parent=True),
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
        **{
            name: f"{paths.PLANNING}/{file}"
            for name, file in paths.PLANNED.items()
            if name != "figure"
        },
        figure=report(
            f"{paths.PLANNING}/{paths.PLANNED['figure']}",
            caption="../report/starts.rst",
            category="Planning",
            labels={"result": "Where episodes start, and how soon they succeed"},
        ),
    log:
        log_of("planning_tables"),
    benchmark:
        benchmark_of("planning_tables")
    params:
        verb="planning-tables",
        folder=subpath(output.table, parent=True),
        episodes=lambda wildcards, input: Path(input.episodes[0]).parent.parent,
        times=lambda wildcards, input: Path(input.times[0]).parent.parent,


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
            f"--noise={SETTINGS.protocols.push_noise!r}",
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
        folder=subpath(output.table, parent=True),
        pushes=lambda wildcards, input: Path(input.pushes[0]).parent.parent,
        times=lambda wildcards, input: Path(input.times[0]).parent.parent,
    shell:
        logged(
            "python -m nsf_pipeline push-tables --config {input.stamp:q} "
            "--pushes {params.pushes:q} --times {params.times:q} --output {params.folder:q}"
        )


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
        mem_mb=with_searches(lambda wildcards: (0, SETTINGS.protocols.goal_tasks)),
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
        folder=subpath(output.table, parent=True),
        goals=lambda wildcards, input: Path(input.goals[0]).parent.parent,
        times=lambda wildcards, input: Path(input.times[0]).parent.parent,
    shell:
        logged(
            "python -m nsf_pipeline goal-tables --config {input.stamp:q} "
            "--goals {params.goals:q} --times {params.times:q} --output {params.folder:q}"
        )


rule episode_videos:
    input:
        stamp=stamp_of("episode_videos"),
        episodes=shards_of_rows(paths.EPISODES, SHOWN_ROWS),
    output:
        **{
            name: paths.EPISODE_VIDEO.format(shown=name)
            for name in [*paths.SUCCESSES, *paths.HARDEST]
        },
    log:
        log_of("episode_videos"),
    benchmark:
        benchmark_of("episode_videos")
    conda:
        environment("simulation")
    threads: 1
    resources:
        mem_mb=raised(1000),
        runtime=raised(10),
    params:
        episodes=lambda wildcards, input: Path(input.episodes[0]).parent.parent,
        folder=subpath(output.success_fastest, parent=True),
    shell:
        logged(
            "python -m nsf_pipeline episode-videos --config {input.stamp:q} "
            "--episodes {params.episodes:q} --output {params.folder:q}"
        )


# The short table's files in the report; none if there is no such table.
SHORT_TABLE = {
    name: [f"{paths.PLANNING}/{paths.PLANNED_SHORT[name]}"] if SHORT_ROWS else []
    for name in ("text", "provenance")
}


rule planning:
    input:
        paths.PAGE.format(page="planning"),
        expand(paths.GOALS, goal_row=GOAL_ROWS, shard="00000"),
        rules.goal_tables.output,
        # Shards too, so that a lost one is made again.
        shards_of_rows(paths.EPISODES, PLANNED_ROWS),
        shards_of_worlds(paths.PUSHES),
        rules.push_tables.output,
        rules.short_planning.output if SHORT_ROWS else [],
        rules.planning_tables.output,
        rules.episode_videos.output if SHOWN_ROWS else [],
        paths.PAGE.format(page="episodes") if SHOWN_ROWS else [],
