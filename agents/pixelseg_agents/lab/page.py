"""The page, in Gradio: what there is on it, and what happens when it is used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gradio as gr

from pixelseg_agents.lab import figures, views
from pixelseg_agents.lab.episode import LONGEST
from pixelseg_agents.lab.lessons import LESSONS
from pixelseg_agents.lab.painting import SCRIPT, TEMPLATE, read_painting
from pixelseg_agents.lab.rewards import WORDS, written
from pixelseg_agents.lab.showing import HIGH, LOW, NONE, REACH, SHOWN_TERMS, show, who_acts
from pixelseg_agents.lab.style import LEGEND, TOP
from pixelseg_agents.lab.training import SIDE, WATCHED
from pixelseg_agents.lab.uploads import ENDINGS
from pixelseg_agents.lab.visitors import Host, Visitor, Visitors
from pixelseg_env import PixelSegError, load_dataset
from pixelseg_env.dynamics import OBSERVATIONS, TRANSITIONS

TRANSITION_WORDS = {"absorbing": "absorbing: zero is final", "restorable": "restorable: decided anew"}
OBSERVATION_WORDS = {"masked": "masked: image times map", "stacked": "stacked: image and map"}
PRIVATE: dict[str, Any] = {"api_visibility": "private", "show_progress": "hidden"}


class Page:
    """All of the page; `demo` is what Gradio serves.

    Args:
        host: what whoever starts the lab has chosen.
    """

    def __init__(self, host: Host) -> None:
        self.host, self.visitors = host, Visitors(host)
        pictures = load_dataset("phantom", split="all", size=SIDE, count=WATCHED)
        self._watched = pictures.batch(range(WATCHED))
        self.shown: dict[str, Any] = {}
        with gr.Blocks(title="PixelSeg reward lab", analytics_enabled=False, delete_cache=(600, 600)) as self.demo:
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
            self._wire()

    # ---------------------------------------------------------------- what there is

    def _controls(self) -> None:
        shown, host = self.shown, self.host
        with gr.Column(elem_classes="side"):
            gr.HTML("<h3>Picture</h3>")
            titles = list(host.datasets)
            shown["dataset"] = gr.Dropdown(titles, value=titles[0], label="Data set")
            count = len(host.datasets[titles[0]])
            shown["index"] = gr.Slider(0, max(1, count - 1), value=0, step=1, label="Image")
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
                [(TRANSITION_WORDS.get(name, name), name) for name in TRANSITIONS],
                value="absorbing",
                label="Transition",
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
            self.terms: list[tuple[Any, Any]] = []
            for number in range(SHOWN_TERMS):
                first = number == 0
                name = gr.Dropdown(
                    names if first else [("nothing more", NONE), *names],
                    value="squared_error" if first else NONE,
                    label="Paid for" if first else "and for",
                    elem_id=f"term-{number}",
                )
                weight = gr.Slider(
                    -REACH, REACH, value=1.0, step=0.1, label="Weight", visible=first, elem_id=f"weight-{number}"
                )
                self.terms.append((name, weight))
                shown[f"term{number}"], shown[f"weight{number}"] = name, weight
            self.object_weight = shown["object_weight"] = gr.Slider(
                LOW, HIGH, value=10, step=1, label="Object weight", visible=False, elem_id="object-weight"
            )
            self.gains_only = shown["gains_only"] = gr.Checkbox(
                label="Count gains only: max(reward, 0)", elem_id="gains-only"
            )
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
                with gr.Row():
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
                self.back = gr.Button("◀ Back", scale=1, min_width=80, elem_id="back")
                self.forward = gr.Button("Forward ▶", scale=1, min_width=90, elem_id="forward")
                self.play = gr.Button("Play", scale=1, min_width=70, elem_id="play")
                shown["at"] = gr.Slider(0, 1, value=0, step=1, label="Step that is shown", scale=4, elem_id="at")
        self.timer = gr.Timer(0.8, active=False)
        with gr.Row(elem_id="panels"):
            with gr.Column(elem_classes="tile", elem_id="move"):
                gr.HTML("<h3>Your move</h3><p class='hint'>Paint what becomes zero, or what is kept.</p>")
                shown["canvas"] = gr.HTML(
                    "", html_template=TEMPLATE, js_on_load=SCRIPT, apply_default_css=False, elem_id="canvas"
                )
            panels = (
                ("picture", "Image", "Point at a pixel: all its numbers.", True),
                ("map", "Map f(t)", "Kept is white, changed is red.", True),
                ("reward", "Reward r(t)", "What this step paid every pixel.", True),
                ("return", "Return", "From this step to the end.", True),
                ("value", "Value", "What the agent expects from here on.", False),
                ("entropy", "Entropy", "How unsure the agent is, in bits.", False),
                ("seen", "What the agent sees", "Where it looks closer, the window alone.", False),
            )
            for name, title, hint, always in panels:
                with gr.Column(elem_classes="tile", visible=always) as panel:
                    gr.HTML(f"<h3>{title}</h3><p class='hint'>{hint}</p>")
                    shown[name] = gr.Plot(show_label=False, container=False, elem_id=f"panel-{name}")
                if not always:
                    shown[f"{name}_panel"] = panel
        gr.HTML(LEGEND)
        with gr.Row():
            with gr.Column(elem_classes="card", scale=2, min_width=300):
                gr.HTML("<h3>Reward and Dice, step by step</h3>")
                shown["curves"] = gr.Plot(show_label=False, container=False, elem_id="curves")
            with gr.Column(elem_classes="card", scale=3, min_width=300):
                gr.HTML("<h3>Metrics</h3>")
                shown["metrics"] = gr.HTML(elem_id="metrics")

    def _training(self) -> None:
        with gr.Column(elem_classes="card"):
            gr.HTML(
                "<h3>Train a tiny agent</h3><p class='hint'>A small PA3C learns phantoms of 32 x 32 pixels by "
                "the rules and the reward on the left, and is judged on four that it never learns from. Move a slider "
                f"there while it trains. It ends after {self.host.seconds:g} seconds, or when you leave.</p>"
            )
            with gr.Row():
                self.entropy = gr.Slider(0, 0.2, value=0.02, step=0.005, label="Entropy bonus", elem_id="entropy")
                self.start = gr.Button("Train", variant="primary", min_width=100, elem_id="train-start")
                self.stop = gr.Button("Stop", min_width=100, elem_id="train-stop")
            self.standing = gr.HTML(elem_id="standing")
            self.learning = gr.Plot(show_label=False, container=False, visible=False, elem_id="learning")
            self.film = gr.HTML(elem_id="film")
        self.watching = gr.Timer(1.5, active=False)

    # ---------------------------------------------------------------- what happens

    def _wire(self) -> None:
        shown, demo = self.shown, self.demo
        game = self._game_event

        demo.load(self._arrive, None, list(shown.values()), **PRIVATE)
        demo.unload(self._leave)

        game(shown["dataset"].input, lambda v, title: v.choose(title, 0), shown["dataset"])
        game(shown["index"].release, lambda v, title, k: v.choose(title, int(k)), shown["dataset"], shown["index"])
        game(self.send.click, lambda v, image, mask: v.upload(image, mask), self.image, self.mask)
        self.send.click(lambda: (None, None), None, [self.image, self.mask], **PRIVATE)
        for name in ("transition", "observation"):
            game(shown[name].input, lambda v, value, name=name: v.rules(**{name: value}), shown[name])
        game(shown["horizon"].release, lambda v, value: v.rules(horizon=int(value)), shown["horizon"])
        game(shown["gamma"].release, lambda v, value: v.rules(gamma=float(value)), shown["gamma"])

        sliders = [*(part for term in self.terms for part in term), self.object_weight, self.gains_only]
        for name, weight in self.terms:
            game(name.input, self._by_sliders, *sliders)
            game(weight.release, self._by_sliders, *sliders)
        game(self.object_weight.release, self._by_sliders, *sliders)
        game(self.gains_only.input, self._by_sliders, *sliders)
        game(shown["expression"].submit, lambda v, text: v.reward(str(text)), shown["expression"])

        game(shown["who"].input, self._chosen, shown["who"])
        game(self.act.click, lambda v: v.session.act(v.actor()))
        game(self.act_all.click, lambda v: v.session.act(v.actor(), to_the_end=True))
        game(self.restart.click, lambda v: v.session.restart())
        game(shown["canvas"].take, self._painted)
        game(self.back.click, lambda v: v.session.go(v.session.at - 1))
        game(self.forward.click, lambda v: v.session.go(v.session.at + 1))
        game(shown["at"].release, lambda v, step: v.session.go(int(step)), shown["at"])
        self.play.click(self._begin_play, None, self.timer, **PRIVATE)
        game(self.timer.tick, lambda v: v.session.go(v.session.at + 1))
        self.timer.tick(self._still_playing, None, self.timer, **PRIVATE)

        watch = {"fn": self._watch, "outputs": [self.standing, self.learning, self.film, self.watching, shown["who"]]}
        begun = game(self.start.click, lambda v, entropy: v.train(float(entropy)), self.entropy)
        begun.then(**watch, **PRIVATE)
        game(self.stop.click, lambda v: v.stop()).then(**watch, **PRIVATE)
        self.watching.tick(**watch, **PRIVATE)

        game(shown["lesson"].input, lambda v, number: v.begin(None if number < 0 else int(number)), shown["lesson"])
        game(shown["lesson_next"].click, lambda v: v.turn(1))
        game(shown["lesson_back"].click, lambda v: v.turn(-1))
        game(shown["lesson_do"].click, lambda v: v.do_step()).then(**watch, **PRIVATE)
        shown["answer"].input(self._judge, shown["answer"], shown["verdict"], **PRIVATE)

    def _game_event(self, event: Any, do: Callable[..., Any], *inputs: Any) -> Any:
        """Lets an event do something to the visitor's game, and shows what came of it."""

        def changed(visitor: Visitor, *values: Any) -> list[Any]:
            with visitor.session.lock:
                try:
                    do(visitor, *values)
                    trouble = ""
                except PixelSegError as error:
                    trouble = str(error)
                return self._values(visitor, trouble)

        # Gradio looks at a handler's signature for what to hand over besides the inputs.
        def handler(request: gr.Request, *values: Any) -> list[Any]:
            return changed(self.visitors.of(str(request.session_hash)), *values)

        def painting_handler(request: gr.Request, painted: gr.EventData) -> list[Any]:
            return changed(self.visitors.of(str(request.session_hash)), getattr(painted, "painting", None))

        if do == self._painted:
            return event(painting_handler, None, list(self.shown.values()), **PRIVATE)
        return event(handler, list(inputs), list(self.shown.values()), **PRIVATE)

    def _arrive(self, request: gr.Request) -> list[Any]:
        return self._values(self.visitors.of(str(request.session_hash)))

    def _leave(self, request: gr.Request) -> None:
        self.visitors.leave(str(request.session_hash))

    @staticmethod
    def _painted(visitor: Visitor, painting: Any) -> None:
        session = visitor.session
        session.step(read_painting(painting, session.episode.target.shape))

    @staticmethod
    def _chosen(visitor: Visitor, who: str) -> None:
        visitor.who = str(who)
        visitor.actor()

    @staticmethod
    def _by_sliders(visitor: Visitor, *values: Any) -> None:
        terms = [(None if values[k] == NONE else values[k], float(values[k + 1])) for k in (0, 2, 4)]
        visitor.reward(written(terms, float(values[6]), bool(values[7])))

    def _begin_play(self, request: gr.Request) -> Any:
        session = self.visitors.of(str(request.session_hash)).session
        if session.at >= len(session.actions):
            session.go(-1)
        return gr.Timer(active=len(session.actions) > 0)

    def _still_playing(self, request: gr.Request) -> Any:
        session = self.visitors.of(str(request.session_hash)).session
        return gr.Timer(active=session.at < len(session.actions))

    def _judge(self, answer: Any, request: gr.Request) -> Any:
        lesson = self.visitors.of(str(request.session_hash)).lesson
        if lesson is None or answer is None:
            return gr.Markdown(visible=False)
        right = int(answer) == lesson.right
        return gr.Markdown(f"**{'Right.' if right else 'Not that one.'}** {lesson.why if right else ''}", visible=True)

    def _watch(self, request: gr.Request) -> list[Any]:
        visitor = self.visitors.of(str(request.session_hash))
        training = visitor.training
        if training is None:
            return ["", gr.Plot(visible=False), "", gr.Timer(active=False), gr.skip()]
        alive = training.alive
        state, why, looks = training.progress()
        images, targets = self._watched
        plot = gr.Plot(figures.learning_curves(looks), visible=True) if looks else gr.Plot(visible=False)
        film = views.film(looks, targets, images)
        who = gr.skip() if alive else who_acts(visitor)  # it can act when it is done
        return [views.training_line(state, why, looks), plot, film, gr.Timer(active=alive), who]

    def _values(self, visitor: Visitor, trouble: str = "") -> list[Any]:
        """What everything that is shown becomes, in the order of `shown`."""
        found = show(self.host, visitor, trouble)
        return [found.get(name, gr.skip()) for name in self.shown]
