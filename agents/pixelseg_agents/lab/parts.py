"""What there is on the page: its parts, in Gradio, from top to bottom."""

from __future__ import annotations

from typing import Any

import gradio as gr

from pixelseg_agents.lab.episode import LONGEST, MOVES
from pixelseg_agents.lab.lessons import LESSONS
from pixelseg_agents.lab.painting import SCRIPT, TEMPLATE
from pixelseg_agents.lab.rewards import WORDS
from pixelseg_agents.lab.showing import HIGH, LOW, NONE, REACH, SHOWN_TERMS
from pixelseg_agents.lab.style import LEGEND, TOP
from pixelseg_agents.lab.uploads import ENDINGS
from pixelseg_agents.lab.views import EMPTY
from pixelseg_agents.lab.visitors import Host
from pixelseg_env.dynamics import OBSERVATIONS

TRANSITION_WORDS = {
    "absorbing": "absorbing: zero is final",
    "restorable": "restorable: decided anew",
    "additive": "additive: by amounts",
}
OBSERVATION_WORDS = {"masked": "masked: image times map", "stacked": "stacked: image and map"}


class Parts:
    """All parts of the page, made within `gr.Blocks`.

    Args:
        host: what whoever starts the lab has chosen.

    Attributes:
        shown: by name, those that change with a visitor's game; see `showing.show`.
    """

    def __init__(self, host: Host) -> None:
        self.host = host
        self.shown: dict[str, Any] = {}
        gr.HTML(TOP, elem_id="top")
        with gr.Row(elem_id="columns"):
            with gr.Column(scale=1, min_width=290):
                self._controls()
            with gr.Column(scale=4, min_width=320):
                self._lesson_card()
                self.shown["trouble"] = gr.HTML(visible=False, elem_id="trouble")
                with gr.Tabs(elem_id="tabs") as self.shown["tabs"]:
                    with gr.Tab("Play", id="play"):
                        self._game()
                    with gr.Tab("Train", id="train"):
                        self._training()

    def _controls(self) -> None:
        shown, host = self.shown, self.host
        with gr.Column(elem_classes="side"):
            gr.HTML("<h3>Picture</h3>")
            titles = list(host.datasets)
            shown["dataset"] = gr.Dropdown(titles, value=titles[0], label="Data set", elem_id="dataset")
            count = len(host.datasets[titles[0]])
            shown["label"] = gr.Dropdown(
                [], label="Label", info="Shown and painted; the others stay.", visible=False, elem_id="label"
            )
            shown["index"] = gr.Slider(0, max(1, count - 1), value=0, step=1, label="Image", buttons=[])
            with gr.Accordion("Upload your own", open=False):
                gr.HTML(
                    "<p class='hint'>A picture and its mask (black, and one other value), 5 MB each at most. They are "
                    "read, brought to the lab's size, and deleted.</p>"
                )
                self.image = gr.File(label="Picture", file_types=list(ENDINGS), height=90, elem_id="upload-image")
                self.mask = gr.File(label="Mask", file_types=list(ENDINGS), height=90, elem_id="upload-mask")
                self.send = gr.Button("Use these", size="sm", elem_id="upload-send")
        with gr.Column(elem_classes="side"):
            gr.HTML("<h3>Rules</h3>")
            shown["transition"] = gr.Dropdown(
                [(TRANSITION_WORDS.get(name, name), name) for name in MOVES],
                value="absorbing",
                label="Transition",
                elem_id="transition",
            )
            shown["observation"] = gr.Dropdown(
                [(OBSERVATION_WORDS.get(name, name), name) for name in OBSERVATIONS],
                value="masked",
                label="Observation",
            )
            shown["horizon"] = gr.Slider(1, LONGEST, value=5, step=1, label="Steps (horizon)")
            shown["gamma"] = gr.Slider(0, 1, value=0.95, step=0.01, label="Discount (gamma)")
        with gr.Column(elem_classes="side"):
            gr.HTML("<h3>Reward</h3>")
            names = [(WORDS.get(name, name.replace("_", " ")), name) for name in host.rewards]
            for number in range(SHOWN_TERMS):
                first = number == 0
                shown[f"term{number}"] = gr.Dropdown(
                    names if first else [("nothing more", NONE), *names],
                    value="squared_error" if first else NONE,
                    label="Paid for" if first else "and for",
                    elem_id=f"term-{number}",
                )
                shown[f"weight{number}"] = gr.Slider(
                    -REACH, REACH, value=1.0, step=0.1, label="Weight", visible=first, elem_id=f"weight-{number}"
                )
            shown["object_weight"] = gr.Slider(
                LOW, HIGH, value=10, step=1, label="Object weight", visible=False, elem_id="object-weight"
            )
            shown["gains_only"] = gr.Checkbox(label="Gains only: max(reward, 0)", elem_id="gains-only")
            shown["expression"] = gr.Textbox(
                "squared_error",
                label="As an expression",
                info="Written by the sliders, or by you, with Enter: names, numbers, + - * / and .clip(0, None).",
                elem_id="expression",
                max_length=200,
            )

    def _lesson_card(self) -> None:
        shown = self.shown
        with gr.Column(elem_classes="card", elem_id="lesson"):
            choices = [("No lesson", -1), *((f"{one.title}", k) for k, one in enumerate(LESSONS))]
            shown["lesson"] = gr.Radio(choices, value=-1, label="Lesson", elem_id="lesson-choice")
            with gr.Column(visible=False) as shown["lesson_body"]:
                shown["lesson_text"] = gr.Markdown(elem_id="lesson-text")
                shown["answer"] = gr.Radio([], label="Your answer", visible=False, elem_id="lesson-answer")
                shown["verdict"] = gr.Markdown(visible=False, elem_id="lesson-verdict")
                with gr.Row(elem_id="lesson-buttons"):
                    shown["lesson_back"] = gr.Button("Back", size="sm", elem_id="lesson-back")
                    shown["lesson_do"] = gr.Button("Do it", size="sm", variant="primary", elem_id="lesson-do")
                    shown["lesson_next"] = gr.Button("Next", size="sm", elem_id="lesson-next")

    def _game(self) -> None:
        shown = self.shown
        with gr.Column(elem_classes="card"):
            shown["summary"] = gr.HTML(elem_id="summary")
            with gr.Row(elem_id="transport"):
                shown["who"] = gr.Dropdown([], label="Who acts", scale=3, min_width=200, elem_id="who")
                self.act = gr.Button("One step", scale=1, min_width=90, elem_id="act")
                self.act_all = gr.Button("To the end", variant="primary", scale=1, min_width=100, elem_id="act-all")
                self.restart = gr.Button("Begin anew", scale=1, min_width=100, elem_id="restart")
            with gr.Row(elem_id="steps"):
                self.back = gr.Button("◂ Back", scale=1, min_width=80, elem_id="back")
                self.forward = gr.Button("Forward ▸", scale=1, min_width=90, elem_id="forward")
                self.play = gr.Button("▶ Play", scale=1, min_width=70, elem_id="play")
                shown["at"] = gr.Slider(
                    0, 1, value=0, step=1, label="Step that is shown", scale=4, elem_id="at", buttons=[]
                )
        self.timer = gr.Timer(0.8, active=False)
        with gr.Row(elem_id="panels"):
            with gr.Column(elem_classes="tile", elem_id="move"):
                gr.HTML("<h3>Your move</h3><p class='hint'>Paint what the pixels do.</p>")
                shown["canvas"] = gr.HTML(
                    "", html_template=TEMPLATE, js_on_load=SCRIPT, apply_default_css=False, elem_id="canvas"
                )
            self._panel("picture", "Image", "Point at it for numbers.")
            self._panel("map", "Map f(t)", "Kept is white, changed is red.")
            self._panel("reward", "Reward r(t)", "What this step paid.", bar=True)
            self._panel("return", "Return", "From this step to the end.", bar=True)
        with gr.Row(elem_id="thoughts"):
            self._panel("value", "Value", "What the agent expects from here on.", bar=True, always=False)
            self._panel("entropy", "Entropy", "How unsure the agent is, in bits.", bar=True, always=False)
            self._panel("seen", "What the agent sees", "Its window, if it looks closer.", always=False)
        gr.HTML(LEGEND)
        with gr.Row():
            with gr.Column(elem_classes="card", scale=2, min_width=300):
                gr.HTML("<h3>Reward and Dice, step by step</h3>")
                shown["curves"] = gr.Plot(show_label=False, container=False, elem_id="curves")
            with gr.Column(elem_classes="card", scale=3, min_width=300):
                gr.HTML("<h3>Metrics</h3>")
                shown["metrics"] = gr.HTML(elem_id="metrics")

    def _panel(self, name: str, title: str, hint: str, *, bar: bool = False, always: bool = True) -> None:
        """One pixel map; with a bar of colours it is a bit higher."""
        with gr.Column(elem_classes="tile barred" if bar else "tile", visible=always) as panel:
            gr.HTML(f"<h3>{title}</h3><p class='hint'>{hint}</p>")
            self.shown[name] = gr.Plot(show_label=False, container=False, elem_id=f"panel-{name}")
        if not always:
            self.shown[f"{name}_panel"] = panel

    def _training(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.HTML(
                "<h3>Train a tiny agent</h3><p class='hint'>A small PA3C learns phantoms of 32 x 32 pixels by "
                "the rules and the reward that are set, and is judged on four that it never learns from. Weights, "
                "discount and entropy bonus may be moved while it trains; other rules wait for the next training. It "
                f"ends after {self.host.seconds:g} seconds, or when you leave.</p>"
            )
            with gr.Row(elem_id="train-controls"):
                self.entropy = gr.Slider(0, 0.2, value=0.02, step=0.005, label="Entropy bonus", elem_id="entropy")
                self.start = gr.Button("Train", variant="primary", min_width=100, elem_id="train-start")
                self.stop = gr.Button("Stop", min_width=100, elem_id="train-stop")
            self.standing = gr.HTML(EMPTY, elem_id="standing")
            self.learning = gr.Plot(show_label=False, container=False, visible=False, elem_id="learning")
            self.film = gr.HTML(elem_id="film")
        self.watching = gr.Timer(1.5, active=False)
