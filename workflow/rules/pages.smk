# Pages for the report, which shows pictures and HTML and offers all else for download.


rule table_page:
    input:
        tables=TABLES,
    output:
        page=report(
            "results/report/tables.html",
            caption="../report/tables.rst",
            category="Evaluation",
            labels={"result": "Tables"},
        ),
    log:
        "results/logs/report/tables.log",
    benchmark:
        "results/benchmarks/report/tables.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        config=settings_of("table_page"),
        code=code_of("table_page"),
        kind=[],
    shell:
        "(set -x; python -m nsf_pipeline table-page {params.kind} --config {params.config:q} "
        "--output {output.page:q} {input.tables:q}) 2>&1 | tee {log:q}"


rule video_page:
    input:
        videos=PREDICTIONS + VIDEOS,
    output:
        page=report(
            "results/report/videos.html",
            caption="../report/videos.rst",
            category="Videos",
            labels={"result": "Videos"},
        ),
    log:
        "results/logs/report/videos.log",
    benchmark:
        "results/benchmarks/report/videos.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=1000,
        runtime=10,
    params:
        code=code_of("video_page"),
    shell:
        "(set -x; python -m nsf_pipeline video-page --output {output.page:q} {input.videos:q}) "
        "2>&1 | tee {log:q}"


rule settings_page:
    output:
        page=report(
            "results/report/settings.html",
            caption="../report/settings.rst",
            category="Configuration",
            labels={"result": "Settings"},
        ),
    log:
        "results/logs/report/settings.log",
    benchmark:
        "results/benchmarks/report/settings.tsv"
    conda:
        "../../envs/pipeline.yaml"
    threads: 1
    resources:
        mem_mb=500,
        runtime=10,
    params:
        config=settings_of("settings_page"),
        code=code_of("settings_page"),
    shell:
        "(set -x; python -m nsf_pipeline settings-page --config {params.config:q} "
        "--output {output.page:q}) 2>&1 | tee {log:q}"
