# Pages for the report, which shows pictures and HTML and offers other files for download.


rule table_page:
    input:
        stamp=stamp_of("table_page"),
        tables=[rules.evaluate.output.text, *SHORT_TABLE["text"]],
        provenance=[rules.evaluate.output.provenance, *SHORT_TABLE["provenance"]],
    output:
        page=report(
            paths.PAGE.format(page="tables"),
            caption="../report/tables.rst",
            category="Evaluation",
            labels={"result": "Tables"},
        ),
    log:
        log_of("report/tables"),
    benchmark:
        benchmark_of("report/tables")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(500),
        runtime=raised(10),
    params:
        provenance=lambda wildcards, input: [f"--provenance={path}" for path in input.provenance],
    shell:
        logged(
            "python -m nsf_pipeline table-page --config {input.stamp:q} {params.provenance:q} "
            "--output {output.page:q} {input.tables:q}"
        )


use rule table_page as ablation_page with:
    input:
        stamp=stamp_of("ablation_page"),
        tables=[COMPARED["text"], rules.speed.output.text],
        provenance=[COMPARED["provenance"], rules.speed.output.provenance],
    output:
        page=report(
            paths.PAGE.format(page="ablations"),
            caption="../report/tables.rst",
            category="Ablations",
            labels={"result": "Tables"},
        ),
    log:
        log_of("report/ablations"),
    benchmark:
        benchmark_of("report/ablations")


use rule table_page as scaling_page with:
    input:
        stamp=stamp_of("scaling_page"),
        tables=[rules.scaling_curves.output.text],
        provenance=[rules.scaling_curves.output.provenance],
    output:
        page=report(
            paths.PAGE.format(page="scaling"),
            caption="../report/tables.rst",
            category="Scaling",
            labels={"result": "Tables"},
        ),
    log:
        log_of("report/scaling"),
    benchmark:
        benchmark_of("report/scaling")


use rule table_page as planning_page with:
    input:
        stamp=stamp_of("planning_page"),
        tables=[
            rules.push_tables.output.text,
            rules.planning_tables.output.text,
            rules.planning_tables.output.harder_text,
            rules.goal_tables.output.text,
        ],
        provenance=[
            rules.push_tables.output.provenance,
            rules.planning_tables.output.provenance,
            rules.planning_tables.output.provenance,
            rules.goal_tables.output.provenance,
        ],
    output:
        page=report(
            paths.PAGE.format(page="planning"),
            caption="../report/tables.rst",
            category="Planning",
            labels={"result": "Tables"},
        ),
    log:
        log_of("report/planning"),
    benchmark:
        benchmark_of("report/planning")


use rule table_page as second_page with:
    input:
        stamp=stamp_of("second_page"),
        tables=[rules.second_tables.output.text],
        provenance=[rules.second_tables.output.provenance],
    output:
        page=report(
            paths.PAGE.format(page="second_round"),
            caption="../report/tables.rst",
            category="Planning",
            labels={"result": "Second round"},
        ),
    log:
        log_of("report/second_round"),
    benchmark:
        benchmark_of("report/second_round")


rule video_page:
    input:
        stamp=video_page_stamp,
        videos=[
            *expand(paths.PREDICTION, place=PREDICTIONS),
            *expand(paths.VIDEO, trajectory=VIDEOS),
        ],
    output:
        page=report(
            paths.PAGE.format(page="videos"),
            caption="../report/videos.rst",
            category="Videos",
            labels={"result": "Videos"},
        ),
    log:
        log_of("report/videos"),
    benchmark:
        benchmark_of("report/videos")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(1000),
        runtime=raised(10),
    shell:
        logged(
            "python -m nsf_pipeline video-page --config {input.stamp:q} --output {output.page:q} "
            "{input.videos:q}"
        )


use rule video_page as episode_page with:
    input:
        stamp=stamp_of("episode_page"),
        videos=rules.episode_videos.output,
    output:
        page=report(
            paths.PAGE.format(page="episodes"),
            caption="../report/episodes.rst",
            category="Planning",
            labels={"result": "Videos of episodes"},
        ),
    log:
        log_of("report/episodes"),
    benchmark:
        benchmark_of("report/episodes")


rule settings_page:
    input:
        stamp=stamp_of("settings_page"),
    output:
        page=report(
            paths.PAGE.format(page="settings"),
            caption="../report/settings.rst",
            category="Configuration",
            labels={"result": "Settings"},
        ),
    log:
        log_of("report/settings"),
    benchmark:
        benchmark_of("report/settings")
    conda:
        environment("pipeline")
    threads: 1
    resources:
        mem_mb=raised(500),
        runtime=raised(10),
    shell:
        logged(
            "python -m nsf_pipeline settings-page --config {input.stamp:q} "
            "--output {output.page:q}"
        )


# The report's text sees the config, and nothing else of ours.
config[REPORT_STATE] = out_of_date
