"""`pixelseg lab`: a web page on which one plays the pixels' game by hand, and sees what every reward pays for it.

`episode`, `rewards`, `acting`, `session`, `uploads` and `training` know neither Gradio nor Plotly; `figures` draws with
Plotly, and `page` puts all of it together. The last two need the extra `lab`.
"""
