"What must hold of the files of the project, and of the package that is made from them"
import ast
import builtins
import csv
import json
import re
import subprocess
import sys
import time
import zipfile
from configparser import ConfigParser

import nbformat
import pytest


def notebooks(top):
    return [p for p in sorted((top/"nbs").rglob("*.ipynb")) if ".ipynb_checkpoints" not in p.parts]


def code_cells(top):
    return [(p.name, c) for p in notebooks(top) for c in nbformat.read(p, 4).cells if c.cell_type == "code"]


def settings(top):
    ini = ConfigParser(delimiters=["="])
    ini.read(top/"settings.ini", encoding="utf-8")
    return ini["DEFAULT"]


def test_readme_is_what_the_index_notebook_gives(top):
    sys.path.insert(0, str(top/"nbs"))
    try: from readme import readme
    finally: sys.path.pop(0)
    assert (top/"README.md").read_text(encoding="utf-8") == readme(), "run: python nbs/readme.py"


def test_numbers_of_readme_come_from_results(top):
    text = (top/"README.md").read_text(encoding="utf-8")
    found = {}
    for p in (top/"results").rglob("metrics.json"): found.setdefault(p.relative_to(top/"results").parts[0], []).append(json.loads(p.read_text()))
    assert {"custom-resnet", "compact"} <= set(found)
    for runs in found.values():
        assert f"{sum(r['test_acc'] for r in runs)/len(runs):.2%}" in text and runs[0]["data"] in text


def test_files_of_the_published_run_agree(top):
    run = top/"results"/"custom-resnet"/"seed-0"
    metrics, recipe = (json.loads((run/f"{name}.json").read_text()) for name in ("metrics", "recipe"))
    rows = list(csv.DictReader(open(run/"history.csv")))
    assert len(rows) == recipe["epochs"] == metrics["epochs"] == 24 and recipe["width"] == 64
    assert float(rows[-1]["test_acc"]) == pytest.approx(metrics["test_acc"], abs=1e-4) and metrics["test_acc"] >= 0.90
    assert recipe["run"]["images"] == {"train": 50_000, "holdout": 0, "test": 10_000}
    assert recipe["run"]["fingerprint"] == metrics["fingerprint"] and recipe["run"]["data"] == metrics["data"]
    assert float(rows[-1]["lr"]) == pytest.approx(recipe["lr_min"], rel=1e-4)
    assert f"{metrics['test_acc']:.2%}" in (run/"report.md").read_text() and f"{metrics['test_acc']:.2%}" in (run/"log.txt").read_text()
    curve = [(float(r["lr"]), float(r["loss"])) for r in csv.DictReader(open(run/"lr_find.csv"))]
    from era_resnet.lrfind import read_range
    found = read_range(*zip(*curve))
    assert (found.lr_min, found.lr_max) == (recipe["lr_min"], recipe["lr_max"]), "the chapter's rule gives the run's rates"


def test_files_of_the_compact_runs_agree(top):
    folders = sorted((top/"results"/"compact").glob("seed-*"))
    assert len(folders) >= 3
    for run in folders:
        metrics, recipe = (json.loads((run/f"{name}.json").read_text()) for name in ("metrics", "recipe"))
        rows = list(csv.DictReader(open(run/"history.csv")))
        assert run.name == f"seed-{recipe['seed']}" and recipe["network"] == "compact" and len(rows) == recipe["epochs"] == metrics["epochs"] == 30
        assert float(rows[-1]["test_acc"]) == pytest.approx(metrics["test_acc"], abs=1e-4) and metrics["test_acc"] > 0.8477 and metrics["train_acc"] > 0.81246
        assert recipe["run"]["images"] == {"train": 50_000, "holdout": 0, "test": 10_000} and recipe["run"]["fingerprint"] == metrics["fingerprint"]
        assert f"{metrics['test_acc']:.2%}" in (run/"report.md").read_text() and f"{metrics['test_acc']:.2%}" in (run/"log.txt").read_text()
    from era_resnet.train import RECIPES, recipe_from
    published = recipe_from({k: v for k, v in recipe.items() if k not in ("data", "stats", "precision", "device", "seed")})
    from dataclasses import replace
    assert replace(published, name="compact") == RECIPES["compact"], "the recipe of the published runs is the one that people get"
    alone = json.loads((top/"results"/"compact-third"/"seed-0"/"recipe.json").read_text())
    alone = recipe_from({k: v for k, v in alone.items() if k not in ("data", "stats", "precision", "device", "seed")})
    assert replace(alone, name="compact") == replace(RECIPES["compact"], teacher=None), "the same without its teacher"


def test_pictures_are_small_and_exist(top):
    photographs = ("dataloader_preview", "misclassified_images", "grad_cam")
    pictures = list((top/"images").glob("*.png"))
    assert {p.stem for p in pictures} >= {"classwise_accuracy", "lr_finder", "training_curves", *photographs}
    for p in pictures: assert p.stat().st_size <= (200_000 if p.stem in photographs else 60_000), p
    for link in re.findall(r"!\[.+?\]\((.+?)\)", (top/"README.md").read_text(encoding="utf-8")): assert (top/link).is_file(), link


def test_local_links_lead_somewhere(top):
    for page in [top/"README.md", *(top/"results").glob("*/report.md")]:
        for link in re.findall(r"\]\((?!http|#)([^)\s]+)\)", page.read_text(encoding="utf-8")):
            assert (page.parent/link.split("#")[0]).exists(), f"{page.name}: {link}"
    for p in notebooks(top):
        prose = "\n".join(c.source for c in nbformat.read(p, 4).cells if c.cell_type == "markdown")
        for link in re.findall(r"\]\((?!http|#)([^)\s]+)\)", prose):
            assert (p.parent/link.split("#")[0]).exists() or (top/link).exists(), f"{p.name}: {link}"


def anchors(path):
    "What can stand behind # in a link to a notebook: Pandoc's names of its headings"
    prose = "\n".join(c.source for c in nbformat.read(path, 4).cells if c.cell_type == "markdown")
    plain = [re.sub(r"\[(.+?)\]\(.+?\)", r"\1", heading).lower() for heading in re.findall(r"(?m)^#+ (.+)$", prose)]
    return {re.sub(r"^[^a-z]+", "", re.sub(r"\s+", "-", re.sub(r"[^\w\s.-]", "", heading).strip())) for heading in plain}


def test_anchors_of_links_exist(top):
    found = 0
    for p in notebooks(top):
        prose = "\n".join(c.source for c in nbformat.read(p, 4).cells if c.cell_type == "markdown")
        for page, anchor in re.findall(r"\]\(([^)\s#:]*)#([^)\s]+)\)", prose):
            assert anchor in anchors(p.parent/page if page else p), f"{p.name}: {page}#{anchor}"
            found += 1
    assert found


def test_nothing_is_defined_twice(top):
    for path in sorted((top/"era_resnet").glob("*.py")):
        names = [node.name for node in ast.parse(path.read_text(encoding="utf-8")).body if isinstance(node, (ast.FunctionDef, ast.ClassDef))]
        assert len(names) == len(set(names)), f"{path.name}: {sorted(n for n in set(names) if names.count(n) > 1)}"


def test_sidebar_names_every_page(top):
    named = re.findall(r"href: (\S+\.ipynb)", (top/"_quarto.yml").read_text(encoding="utf-8"))
    assert sorted(set(named)) == sorted(p.relative_to(top/"nbs").as_posix() for p in notebooks(top))


def test_every_picture_says_what_it_shows(top):
    for p in notebooks(top):
        for cell in nbformat.read(p, 4).cells:
            if cell.cell_type == "markdown": assert "![](" not in cell.source and not re.search(r"^!\[.*\)$", cell.source, re.M), f"{p.name}: nothing, or no <!-- --> behind it"
            elif any("image/png" in o.get("data", {}) for o in cell.get("outputs", [])): assert re.search(r"^#\| fig-alt: \S", cell.source, re.M), f"{p.name}: {cell.source[:80]}"


def test_few_cells_are_kept_out_of_the_plain_test(top):
    cells = code_cells(top)
    kept_out = [n for n, c in cells if re.search(r"^#\|\s*(slow|cuda|eval:\s*false)", c.source, re.M)]
    assert len(kept_out) <= 0.15*len(cells), f"{len(kept_out)} of {len(cells)}"


def parsed(source):
    "The syntax of a cell; commands for the shell count as nothing"
    return ast.parse(re.sub(r"^(\s*)[!%].*$", r"\1pass", source, flags=re.M))


def shows_something(source):
    "Does a cell print, draw, or end in a value to be looked at?"
    if re.match(r"#\|\s*(export|hide|default_exp)", source): return False
    tree = parsed(source)
    calls = {ast.unparse(n.func).split(".")[-1] for s in tree.body if not isinstance(s, (ast.FunctionDef, ast.ClassDef)) for n in ast.walk(s) if isinstance(n, ast.Call)}
    if calls & {"print", "subplots"}: return True
    last = tree.body[-1].value if tree.body and isinstance(tree.body[-1], ast.Expr) and not source.rstrip().endswith(";") else None
    if isinstance(last, ast.Call): return bool(re.search("plot|show|tabulate|Markdown|HTML|head", ast.unparse(last.func)))
    return isinstance(last, (ast.Name, ast.Attribute))


def test_notebooks_hold_no_errors_and_were_executed(top):
    assert shows_something("fig") and shows_something("fig, ax = plt.subplots()\nax.legend();") and shows_something("tabulate(rows)")
    assert not shows_something("#| export\ndef f(): print(1)") and not shows_something("x = 1") and not shows_something("f()")
    for name, cell in code_cells(top):
        assert not [o for o in cell.outputs if o.output_type == "error"], name
        assert not [o for o in cell.outputs if o.get("name") == "stderr"], f"{name}: {cell.source[:60]}"
        if shows_something(cell.source): assert cell.outputs, f"{name} was not executed: {cell.source[:60]}"


def test_each_notebook_has_front_matter_and_one_title(top):
    for p in notebooks(top):
        cells = nbformat.read(p, 4).cells
        assert cells[0].cell_type == "raw" and re.match(r"---\ndescription: \S", cells[0].source) and "title:" not in cells[0].source, p.name
        titles = [c.source for c in cells if c.cell_type == "markdown" and re.search(r"^# ", re.sub(r"```.*?```", "", c.source, flags=re.S), re.M)]
        assert len(titles) == 1 and re.fullmatch(r"# [^\n]+(\n\n> [^\n]+)?", titles[0]), f"{p.name}: a heading, and at most a quotation below it, in a cell of their own"


def names_of(tree):
    "Names that code binds, and names that it uses"
    nodes = list(ast.walk(tree))
    bound = {(a.asname or a.name).split(".")[0] for n in nodes if isinstance(n, (ast.Import, ast.ImportFrom)) for a in n.names}
    bound |= {n.id for n in nodes if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)} | {n.arg for n in nodes if isinstance(n, ast.arg)}
    bound |= {n.name for n in nodes if isinstance(n, (ast.FunctionDef, ast.ClassDef))}
    return bound, {n.id for n in nodes if isinstance(n, ast.Name)}


def test_cells_that_import_need_no_other_cells(top):
    "The maker of the site runs cells that are exported or import something, and no others"
    for p in notebooks(top):
        known = set(vars(builtins))
        for cell in (c for c in nbformat.read(p, 4).cells if c.cell_type == "code"):
            tree = parsed(cell.source)
            imports = any(isinstance(n, (ast.Import, ast.ImportFrom)) for n in tree.body)
            bound, used = names_of(tree)
            if imports: assert used <= known | bound, f"{p.name}: {sorted(used - known - bound)} in {cell.source[:80]}"
            if imports or "#| export" in cell.source: known |= bound

def test_exported_code_has_no_star_imports_and_imports_one_way(top):
    order = ["custom_resnet", "compact", "data", "lrfind", "train", "analysis", "zoo", "cli"]
    for path in (top/"era_resnet").glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom):
                assert "*" not in [a.name for a in node.names], path
                module = node.module if node.level else (node.module or "").removeprefix("era_resnet.")
                if module in order and path.stem in order: assert order.index(module) < order.index(path.stem), f"{path.stem} knows {module}"


def run_python(code):
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)


@pytest.mark.parametrize("module", ["custom_resnet", "compact"])
def test_networks_need_torch_alone(module):
    code = f"""
import sys, torch
before = set(sys.modules)
import era_resnet.{module}
new = {{m.split('.')[0] for m in set(sys.modules) - before}} - set(sys.stdlib_module_names)
print(sorted(new - {{'era_resnet', 'torch'}}))
"""
    result = run_python(code)
    assert result.stdout.strip() == "[]", result.stdout + result.stderr


def test_custom_resnet_costs_little_beside_torch():
    code = """
import time
start = time.perf_counter()
import torch
between = time.perf_counter()
import era_resnet.custom_resnet
print((time.perf_counter() - between)/(between - start))
"""
    shares = [float(run_python(code).stdout) for _ in range(3)]
    assert min(shares) < 0.02, shares


def test_package_runs_without_the_tools_that_make_it(tmp_path):
    code = f"""
import sys
class Refuse:
    def find_spec(self, name, *args):
        if name.split('.')[0] in ('nbdev', 'execnb', 'fastcore', 'ghapi', 'pytest', 'nbformat', 'nbclient', 'nbconvert', 'jupyter', 'ipywidgets'):
            raise ImportError(name)
sys.meta_path.insert(0, Refuse())
sys.argv = ['era-resnet', 'train', '--recipe', 'quickstart', '--limit', '200', '--epochs', '1', '--set', 'width=4', '--set', 'batch_size=20',
            '--set', 'precision=fp32', '--out', {str(tmp_path/'run')!r}]
from era_resnet.cli import main
main()
"""
    result = run_python(code)
    assert result.returncode == 0 and (tmp_path/"run"/"report.md").exists(), result.stderr


def test_help_answers_at_once(era):
    seconds = []
    for _ in range(3):
        start = time.perf_counter()
        assert era("--help").returncode == 0
        seconds.append(time.perf_counter() - start)
    assert min(seconds) < 1.5, seconds
    code = "import sys, era_resnet.cli; print([m for m in ('torch', 'numpy', 'matplotlib', 'albumentations') if m in sys.modules])"
    assert run_python(code).stdout.strip() == "[]"


def test_wheel_says_what_settings_say(top, tmp_path):
    subprocess.run([sys.executable, "-m", "build", "--no-isolation", "--wheel", "--outdir", tmp_path, top], check=True, capture_output=True)
    wheel, = tmp_path.glob("*.whl")
    files = zipfile.ZipFile(wheel)
    about = next(n for n in files.namelist() if n.endswith("METADATA"))
    text, cfg = files.read(about).decode(), settings(top)
    needs = [l for l in text.splitlines() if l.startswith("Requires-Dist") and "extra ==" not in l]
    assert f"Name: {cfg['lib_name']}" in text and f"Version: {cfg['version']}" in text and re.search(r"^License(-Expression)?: Apache-2.0$", text, re.M)
    assert len(needs) == len(cfg["requirements"].split())
    assert not [n for n in needs if re.search("nbdev|jupyter|pytest|fastcore", n)]
    assert "](images/" not in text and "](nbs/" not in text, "links in the description are absolute"
    assert "era_resnet/cli.py" in files.namelist() and not [n for n in files.namelist() if n.startswith(("tests", "nbs"))]
