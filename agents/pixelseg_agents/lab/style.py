"""How the page looks: one column of controls, one of pictures; on a phone one below the other."""

from pathlib import Path

CSS = (Path(__file__).parent / "style.css").read_text(encoding="utf-8")

TOP = """
<h1>Reward lab</h1>
<p>Every pixel is an agent: at each step it says <em>zero</em> (background) or <em>keep</em> (object), and a reward pays
it. Play by hand or let an agent act, change the reward, and see who is paid for what.</p>
"""

LEGEND = """
<p class="legend"><span><i style="background:#0072B2"></i>outline of the truth</span>
<span><i style="background:#E69F00"></i>outline of the map</span><span><i style="background:#D62728"></i>changed</span>
<span><i style="background:#00507D"></i>earns</span><span><i style="background:#B34700"></i>costs</span></p>
"""

LIGHT = "() => document.body.classList.remove('dark')"
# Gradio confines `css` to what lies within its container, and on a phone the container's own margins are too wide.
HEAD = """<style>
@media (max-width: 760px) {
  .gradio-container.gradio-container { padding: 8px 10px 24px !important; max-width: 100vw !important; }
  .main.fillable.app { padding: 0 !important; }
}
</style>"""
