"""Serving the page: on this machine alone unless told otherwise, with nothing left behind."""

from __future__ import annotations

import importlib.util
import os
import tempfile
from typing import Any

from pixelseg_agents.lab.uploads import LARGEST_FILE
from pixelseg_agents.lab.visitors import Host
from pixelseg_env import OptionError


def serve(host: Host, name: str = "127.0.0.1", port: int = 7860, block: bool = True) -> Any:
    """Serves the lab.

    Args:
        host: what is shown, and to how many.
        name: of the network interface; 127.0.0.1 is this machine alone.
        port: where; 0: any that is free.
        block: whether to stay here until Ctrl-C.

    Returns:
        The page, with `address`, where it is served, and `close()`.

    Raises:
        OptionError: Gradio or Plotly is missing, or the port is taken.
    """
    for package in ("gradio", "plotly"):
        if importlib.util.find_spec(package) is None:
            raise OptionError(f'the lab needs {package}, which is not installed: pip install "pixelseg-agents[lab]"')
    # Before Gradio is imported, for it asks once: whatever is uploaded lies here, and goes with the server.
    uploads = tempfile.TemporaryDirectory(prefix="pixelseg-lab-")
    os.environ["GRADIO_TEMP_DIR"] = uploads.name
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    import gradio as gr

    from pixelseg_agents.lab.figures import FONT
    from pixelseg_agents.lab.page import Page
    from pixelseg_agents.lab.style import CSS, HEAD

    page: Any = Page(host)
    fonts = [part.strip("' ") for part in FONT.split(",")]
    theme = gr.themes.Default(
        primary_hue="blue", neutral_hue="slate", font=fonts, font_mono=["ui-monospace", "monospace"]
    )
    page.demo.queue(api_open=False, max_size=200, default_concurrency_limit=8)
    try:
        _, page.address, _ = page.demo.launch(
            server_name=name,
            server_port=port or None,
            prevent_thread_lock=True,
            quiet=True,
            share=False,
            max_file_size=LARGEST_FILE,
            ssr_mode=False,
            footer_links=[],
            theme=theme,
            css=CSS,
            head=HEAD,
            show_error=False,
            state_session_capacity=host.visitors,
        )
    except OSError as error:
        raise OptionError(f"--port {port}: cannot be used on {name} ({error}); choose another") from error

    def close() -> None:
        page.visitors.clear()
        page.demo.close(verbose=False)
        uploads.cleanup()

    page.close = close
    if block:
        print(f"The lab is at {page.address} (Ctrl-C ends it)", flush=True)
        try:
            page.demo.block_thread()
        finally:
            page.close()
    return page
