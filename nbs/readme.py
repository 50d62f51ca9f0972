"""Write README.md from index.ipynb, without Quarto: `python nbs/readme.py`.

Cells flagged `#| hide` are left out, of cells flagged `#| echo: false` only the output is kept, and links to
notebooks lead to the notebooks in `nbs/`."""
import re
from pathlib import Path

import nbformat

TOP = Path(__file__).resolve().parent.parent


def output_text(output):
    "The Markdown or plain text of a cell's output"
    if output.output_type == "stream": return f"```\n{output.text.strip()}\n```"
    return output.data.get("text/markdown") or f"```\n{output.data['text/plain']}\n```"


def cell_text(cell):
    "What README shows of a cell: a list of paragraphs"
    if cell.cell_type == "markdown": return [cell.source]
    if cell.cell_type != "code" or "#| hide" in cell.source: return []
    source = [] if "#| echo: false" in cell.source else [f"```python\n{cell.source}\n```"]
    return source + [output_text(o) for o in cell.outputs]


def readme():
    "The text of README.md"
    cells = nbformat.read(TOP/"nbs"/"index.ipynb", as_version=4).cells
    text = "\n\n".join(part for cell in cells for part in cell_text(cell))
    text = re.sub(r"\]\((?!http)([\w/]+\.ipynb)", r"](nbs/\1", text)
    return "<!-- Made from nbs/index.ipynb by `python nbs/readme.py`; edit that notebook. -->\n\n" + text + "\n"


if __name__ == "__main__":
    (TOP/"README.md").write_text(readme(), encoding="utf-8")
