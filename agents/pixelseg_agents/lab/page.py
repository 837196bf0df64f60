"""The page, in Gradio: what happens when it is used. What there is on it stands in `parts`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import gradio as gr

from pixelseg_agents.lab import figures, views
from pixelseg_agents.lab.painting import read_painting
from pixelseg_agents.lab.parts import Parts
from pixelseg_agents.lab.rewards import written
from pixelseg_agents.lab.showing import NONE, SHOWN_TERMS, show, show_lesson, who_acts
from pixelseg_agents.lab.training import SIDE, WATCHED
from pixelseg_agents.lab.visitors import Host, Visitor, Visitors
from pixelseg_env import PixelSegError, load_dataset

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
        with gr.Blocks(title="PixelSeg reward lab", analytics_enabled=False, delete_cache=(600, 600)) as self.demo:
            self.parts = Parts(host)
            self.shown = self.parts.shown
            self.demo.load(self._arrive, None, list(self.shown.values()), **PRIVATE)
            self.demo.unload(self._leave)
            self._wire_controls()
            self._wire_game()
            self._wire_training()
            self._wire_lessons()

    # ---------------------------------------------------------------- what is wired to what

    def _wire_controls(self) -> None:
        shown, parts, game = self.shown, self.parts, self._game_event
        game(shown["dataset"].input, lambda v, title: v.choose(title, 0), shown["dataset"])
        game(shown["label"].input, lambda v, label: v.session.show_label(int(label)), shown["label"])
        game(parts.send.click, lambda v, image, mask: v.upload(image, mask), parts.image, parts.mask)
        parts.send.click(lambda: (None, None), None, [parts.image, parts.mask], **PRIVATE)
        for name in ("transition", "observation"):
            game(shown[name].input, lambda v, value, name=name: v.rules(**{name: value}), shown[name])
        self._slider("index", lambda v, title, k: v.choose(title, int(k)), shown["dataset"], shown["index"])
        self._slider("horizon", lambda v, value: v.rules(horizon=int(value)), shown["horizon"])
        self._slider("gamma", lambda v, value: v.rules(gamma=float(value)), shown["gamma"])

        weights = [f"weight{number}" for number in range(SHOWN_TERMS)]
        terms = [f"term{number}" for number in range(SHOWN_TERMS)]
        written_by = ("gains_only", "object_weight", *terms, *weights)
        sliders = [shown[name] for name in written_by]
        for name in (*terms, "gains_only"):
            game(shown[name].input, self._by_sliders, *sliders)
        for name in (*weights, "object_weight"):
            self._slider(name, self._by_sliders, *sliders, still=written_by)
        game(shown["expression"].submit, lambda v, text: v.reward(str(text)), shown["expression"])

    def _wire_game(self) -> None:
        shown, parts, game = self.shown, self.parts, self._game_event
        game(shown["who"].input, self._chosen, shown["who"])
        game(parts.act.click, lambda v: v.session.act(v.actor()))
        game(parts.act_all.click, lambda v: v.session.act(v.actor(), to_the_end=True))
        game(parts.restart.click, lambda v: v.session.restart())
        game(shown["canvas"].take, self._painted)
        game(parts.back.click, lambda v: v.session.go(v.session.at - 1))
        game(parts.forward.click, lambda v: v.session.go(v.session.at + 1))
        self._slider("at", lambda v, step: v.session.go(int(step)), shown["at"])
        parts.play.click(self._begin_play, None, parts.timer, **PRIVATE)
        game(parts.timer.tick, lambda v: v.session.go(v.session.at + 1))
        parts.timer.tick(self._still_playing, None, parts.timer, **PRIVATE)

    def _wire_training(self) -> None:
        parts, game = self.parts, self._game_event
        outputs = [parts.standing, parts.learning, parts.film, parts.watching, self.shown["who"]]
        self._watch_event: dict[str, Any] = {"fn": self._watch, "outputs": outputs, **PRIVATE}
        game(parts.start.click, lambda v, entropy: v.train(float(entropy)), parts.entropy).then(**self._watch_event)
        game(parts.stop.click, lambda v: v.stop()).then(**self._watch_event)
        game(parts.entropy.change, lambda v, entropy: v.reweigh(float(entropy)), parts.entropy)
        parts.watching.tick(**self._watch_event)

    def _wire_lessons(self) -> None:
        shown, game = self.shown, self._game_event
        self._turn(
            shown["lesson"].input, lambda v, number: v.begin(None if number < 0 else int(number)), shown["lesson"]
        )
        self._turn(shown["lesson_next"].click, lambda v: v.turn(1))
        self._turn(shown["lesson_back"].click, lambda v: v.turn(-1))
        game(shown["lesson_do"].click, lambda v: v.do_step()).then(**self._watch_event)
        shown["answer"].input(self._judge, shown["answer"], shown["verdict"], **PRIVATE)

    def _turn(self, event: Any, do: Callable[..., Any], *inputs: Any) -> None:
        """Lets an event turn the pages of a lesson; the game stays as it is, so nothing else is shown anew."""
        outputs = {name: part for name, part in self.shown.items() if name.startswith(("lesson", "answer", "verdict"))}

        def handler(request: gr.Request, *values: Any) -> list[Any]:
            visitor = self.visitors.of(str(request.session_hash))
            do(visitor, *values)
            found = show_lesson(visitor)
            return [found.get(name, gr.skip()) for name in outputs]

        event(handler, list(inputs), list(outputs.values()), **PRIVATE)

    def _slider(self, name: str, do: Callable[..., Any], *inputs: Any, still: Sequence[str] = ()) -> None:
        """Lets a slider act while it moves, under a pointer or by keys; what it would be set to is left alone then."""
        self._game_event(self.shown[name].input, do, *inputs, still=(name, *still), trigger_mode="always_last")

    def _game_event(
        self, event: Any, do: Callable[..., Any], *inputs: Any, still: Sequence[str] = (), **more: Any
    ) -> Any:
        """Lets an event do something to the visitor's game, and shows what came of it.

        Args:
            event: of Gradio.
            do: is given the visitor and the inputs' values.
            inputs: parts of the page.
            still: the parts that are not shown anew.
            more: for Gradio.
        """
        outputs = {name: part for name, part in self.shown.items() if name not in still}

        def changed(visitor: Visitor, *values: Any) -> list[Any]:
            with visitor.session.lock:
                try:
                    do(visitor, *values)
                    trouble = ""
                except PixelSegError as error:
                    trouble = str(error)
                return self._values(visitor, outputs, trouble)

        # Gradio looks at a handler's signature for what to hand over besides the inputs.
        def handler(request: gr.Request, *values: Any) -> list[Any]:
            return changed(self.visitors.of(str(request.session_hash)), *values)

        def painting_handler(request: gr.Request, painted: gr.EventData) -> list[Any]:
            return changed(self.visitors.of(str(request.session_hash)), getattr(painted, "painting", None))

        if do == self._painted:
            return event(painting_handler, None, list(outputs.values()), **PRIVATE, **more)
        return event(handler, list(inputs), list(outputs.values()), **PRIVATE, **more)

    # ---------------------------------------------------------------- what happens

    def _arrive(self, request: gr.Request) -> list[Any]:
        return self._values(self.visitors.of(str(request.session_hash)), self.shown)

    def _leave(self, request: gr.Request) -> None:
        self.visitors.leave(str(request.session_hash))

    @staticmethod
    def _painted(visitor: Visitor, painting: Any) -> None:
        visitor.session.paint(read_painting(painting, visitor.session))

    @staticmethod
    def _chosen(visitor: Visitor, who: str) -> None:
        visitor.who = str(who)
        visitor.actor()

    @staticmethod
    def _by_sliders(visitor: Visitor, gains_only: Any, object_weight: Any, *values: Any) -> None:
        names, weights = values[:SHOWN_TERMS], values[SHOWN_TERMS:]
        terms = [(None if name == NONE else name, float(weight)) for name, weight in zip(names, weights, strict=True)]
        visitor.reward(written(terms, float(object_weight), bool(gains_only)))

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
            return [views.EMPTY, gr.Plot(visible=False), "", gr.Timer(active=False), gr.skip()]
        alive = training.alive
        state, why, looks = training.progress()
        images, targets = self._watched
        plot = gr.Plot(figures.learning_curves(looks), visible=True) if looks else gr.Plot(visible=False)
        film = views.film(looks, targets, images)
        who = gr.skip() if alive else who_acts(visitor)  # it can act when it is done
        return [views.training_line(state, why, looks), plot, film, gr.Timer(active=alive), who]

    def _values(self, visitor: Visitor, outputs: Sequence[str] | dict[str, Any], trouble: str = "") -> list[Any]:
        """What parts of the page become, in their order."""
        found = show(self.host, visitor, trouble)
        return [found.get(name, gr.skip()) for name in outputs]
