"""The explorer's page, a marimo notebook: `nsf explore` opens it.

It also runs as a script, `python nsf_pipeline/explorer/app.py`, and then prints the scores.
"""

import marimo

app = marimo.App(width="full", app_title="PushT explorer", css_file="style.css")

with app.setup:
    from html import escape
    from typing import get_args

    import marimo as mo

    from nsf_pipeline.config import Planner
    from nsf_pipeline.config.policy_file import parse_policy
    from nsf_pipeline.errors import UserError
    from nsf_pipeline.explorer import believed, controls, pictures, planned, simulated, sources
    from nsf_pipeline.pusht.simulator import Simulator
    from nsf_pipeline.system.printing import say
    from nsf_pipeline.timing import CONTROL_DT

    def heading(words):
        """A heading in the page."""
        return mo.Html(f"<h2 class='nsf-heading'>{words}</h2>")

    def line(text):
        """What went wrong, in one line."""
        shown = mo.Html(f"<code class='nsf-line'>{escape(text)}</code>")
        return mo.callout(shown, kind="danger") if text else None


@app.cell(hide_code=True)
def beginning():
    given = sources.from_arguments(mo.cli_args().to_dict())
    simulator, models = Simulator(), believed.Models()
    return given, models, simulator


@app.cell(hide_code=True)
def states(given):
    shaped, set_shaped = mo.state(controls.straight(given.dmp))
    complaint, complain = mo.state("")

    def attempt(make):
        """Set the sliders to a policy, or say why there is none."""
        try:
            made = make()
        except UserError as error:
            complain(str(error))
        else:
            complain("")
            set_shaped(made)

    return attempt, complaint, shaped


@app.cell(hide_code=True)
def sliders(shaped):
    knobs = mo.ui.dictionary(
        {
            name: mo.ui.slider(
                *slider[1:], value, label=slider.label, show_value=True, full_width=True
            )
            for name, (slider, value) in controls.sliders(shaped()).items()
        }
    )
    scaled = mo.ui.checkbox(
        shaped().dmp.scale_forcing_by_goal_delta, label="scale the forcing by goal − start"
    )
    return knobs, scaled


@app.cell(hide_code=True)
def presets(attempt, given, shaped):
    def preset(label, make):
        return mo.ui.button(label=label, on_click=lambda _: attempt(make))

    def load(files):
        if files:
            attempt(lambda: parse_policy(files[0].contents, files[0].name))

    number = mo.ui.number(0, 10_000_000, 1, 0, label="trajectory")
    buttons = mo.hstack(
        [
            preset("straight", lambda: controls.straight(shaped().dmp)),
            preset("curved", lambda: controls.curved(shaped().dmp)),
            preset("hook round the T", lambda: controls.hook(shaped().dmp)),
            mo.ui.button(
                label="random",
                value=0,
                on_click=lambda count: count + 1,
                on_change=lambda count: attempt(
                    lambda: controls.at_random(count, shaped().dmp, given.config.policies)
                ),
            ),
            preset("reset", lambda: controls.straight(given.dmp)),
        ],
        justify="start",
        wrap=True,
    )
    from_data = (
        mo.hstack(
            [
                number,
                preset("show", lambda: controls.of_trajectory(given.dataset, number.value)),
            ],
            justify="start",
            align="end",
            wrap=True,
        )
        if given.dataset
        else mo.md("No data set, so no trajectories: `--dataset` names one.")
    )
    loaded = mo.ui.file(
        filetypes=[".json"],
        label="load a policy (JSON)",
        max_size=1 << 16,
        on_change=load,
    )
    return buttons, from_data, loaded


@app.cell(hide_code=True)
def shaping(knobs, scaled, shaped):
    file = controls.policy_of(knobs.value, controls.with_scaling(shaped().dmp, scaled.value))
    return (file,)


@app.cell(hide_code=True)
def side(buttons, from_data, knobs, loaded, scaled):
    def group(heading, *parts):
        return f"<h2 class='nsf-heading'>{heading}</h2>" + "".join(f"{part}" for part in parts)

    def of(names):
        return [knobs[name] for name in names]

    weights = [name for name in knobs.value if name.startswith("w_")]
    mo.sidebar(
        mo.Html(
            "<div class='nsf-side'>"
            + group("Presets", mo.vstack([buttons, from_data]))
            + group("Policy", *of(controls.POLICY), scaled)
            + group("Weights of the basis functions", *of(weights))
            + group("Table", *of(controls.TABLE))
            + group("File", loaded)
            + "</div>"
        ),
        width="22rem",
    )
    return


@app.cell(hide_code=True)
def title():
    mo.Html(
        "<h1 class='nsf-title'>PushT explorer</h1><p>Shape a movement primitive with the sliders, "
        "watch it push the T in the simulator, and see what a model believes will happen.</p>"
    )
    return


@app.cell(hide_code=True)
def policy(complaint, file):
    saved = mo.download(
        file.text().encode(), "policy.json", "application/json", label="save as JSON"
    )
    mo.vstack(
        [
            *filter(None, [line(complaint())]),
            mo.Html(pictures.in_words(file)),
            mo.Html(f"<div class='nsf-policy'>{pictures.scene(file)}{pictures.charts(file)}</div>"),
            mo.hstack([saved], justify="start"),
        ]
    )
    return


@app.cell(hide_code=True)
def choices(given):
    simulate = mo.ui.checkbox(True, label="simulate PushT")
    another = mo.ui.button(
        label="another draw of the noise", value=0, on_click=lambda count: count + 1
    )
    names = ["none", *given.models]
    first = mo.ui.dropdown(names, names[min(1, len(names) - 1)], label="model")
    second = mo.ui.dropdown(names, "none", label="beside it")
    after = mo.ui.slider(0.1, 4.0, 0.1, 2.0, label="after (s)", show_value=True)
    planner = mo.ui.dropdown([*get_args(Planner)], "cem", label="planner")
    go = mo.ui.run_button(label="plan from here")
    return after, another, first, go, planner, second, simulate


@app.cell(hide_code=True)
def simulator_heading(another, simulate):
    mo.vstack(
        [
            heading("What happens"),
            mo.hstack(
                [simulate, *([another] if simulate.value else [])], justify="start", wrap=True
            ),
        ]
    )
    return


@app.cell(hide_code=True)
def simulation(another, file, simulate, simulator):
    mo.stop(not simulate.value)
    made = simulated.rollout(simulator, file, another.value)
    mo.Html(
        f"<div class='nsf-pair'>{pictures.animation(file, made)}{pictures.coverage(made)}</div>"
    )
    return


@app.cell(hide_code=True)
def model_heading(after, first, given, second):
    mo.vstack(
        [
            heading("What a model believes"),
            mo.hstack([first, second, after], justify="start", wrap=True)
            if given.models
            else mo.md("There is no model here yet: `make` trains one, `--model` names one."),
        ]
    )
    return


@app.cell(hide_code=True)
def belief(after, file, first, given, models, second):
    chosen = [name for name in dict.fromkeys([first.value, second.value]) if name != "none"]
    moment = min(after.value, CONTROL_DT * len(simulated.targets(file)))
    beliefs, refused = [], []
    for name in chosen:
        path = given.models[name]
        try:
            beliefs.append(believed.believed(name, path, models, file, moment))
        except UserError as error:
            refused.append(line(str(error)))
    mo.vstack(refused) if refused else None
    return beliefs, moment


@app.cell(hide_code=True)
def comparison(beliefs, file, moment, simulate, simulator):
    mo.stop(not beliefs and not simulate.value)
    law = simulated.law(simulator, file, moment) if simulate.value else None
    tables = believed.scores(beliefs, law) if law else []
    mo.Html(
        f"<div class='nsf-pair'>{pictures.prediction(file, law, beliefs, moment)}"
        f"{pictures.scores(tables)}</div>"
    )
    return (tables,)


@app.cell(hide_code=True)
def script(tables):
    if mo.app_meta().mode == "script":
        say(pictures.scores_in_words(tables))
    return


@app.cell(hide_code=True)
def plan_heading(go, planner):
    mo.vstack([heading("What a planner would do"), mo.hstack([go, planner], justify="start")])
    return


@app.cell(hide_code=True)
def plan(attempt, file, first, given, go, models, planner):
    mo.stop(not go.value)
    try:
        with mo.status.spinner("Planning; the first time takes some seconds longer."):
            found = planned.plan_from(file, given.models.get(first.value), models, planner.value)
    except UserError as error:
        mo.stop(True, line(str(error)))
    take_over = mo.ui.button(
        label="set the sliders to this push",
        on_click=lambda _: attempt(lambda: planned.policy_of(found, file)),
    )
    picture = pictures.plan(file, found, planner.value)
    mo.vstack([mo.Html(f"<div class='nsf-alone'>{picture}</div>"), take_over])
    return


if __name__ == "__main__":
    app.run()
