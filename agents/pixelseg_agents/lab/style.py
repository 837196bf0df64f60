"""How the page looks: one column of controls, one of pictures; on a phone one below the other."""

from pathlib import Path

from pixelseg_agents.lab.figures import CHANGED, FOUND, TRUTH, WINDOW

CSS = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")

TOP = """
<div class="head">
<svg width="46" height="46" viewBox="0 0 6 6" shape-rendering="crispEdges" aria-hidden="true">
<path fill="#282C34" d="M0 0h6v6H0z"/>
<path fill="#F7F7F7" d="M2 1h2v1h1v2H4v1H2V4H1V2h1z"/><path fill="#D62728" d="M4 1h1v1H4zM1 4h1v1H1z"/></svg>
<div><h1>Reward lab</h1>
<p>Every pixel is an agent: at each step it says <em>zero</em> (background) or <em>keep</em> (object), and a reward pays
it. Play by hand or let an agent act, change the reward, and see who is paid for what.</p></div></div>
"""

LEGEND = f"""
<p class="legend"><span><i class="outline" style="border-color:{TRUTH}"></i>outline of the truth</span>
<span><i class="outline" style="border-color:{FOUND}"></i>outline of the map</span>
<span><i class="window" style="border-color:{WINDOW}"></i>where the agent looks</span>
<span><i style="background:{CHANGED}"></i>changed in this step</span>
<span><i style="background:#00507D"></i>earns</span><span><i style="background:#fff"></i>nothing</span>
<span><i style="background:#B34700"></i>costs</span></p>
"""

# Gradio confines `css` to what lies within its container, and on a phone the container's own margins are too wide.
HEAD = """<style>
@media (max-width: 760px) {
  .gradio-container.gradio-container { padding: 8px 10px 24px !important; max-width: 100vw !important; }
  .main.fillable.app { padding: 0 !important; }
}
</style>"""
