"""All figures of a view as one zip, the same without a browser, and the glossary."""

import io
import json
import re
import subprocess
import sys
import zipfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import parse_qs

import pytest
from streamlit.testing.v1 import AppTest

from engine.errors import BadInput, RunError, StoreError
from engine.store import queries
from pages.ui import bundle, captions, export, filters, glossary, headless, nav, store, vocabulary
from pages.ui.export import Collected
from pages.ui.formats import METRICS, Metric
from tests.pages.conftest import ROOT, Shipped

SMALL = {"kinds": ("svg",)}


def shown(app: AppTest) -> Collected:
    return app.session_state[export.COLLECTED]


def button(app: AppTest) -> Any:
    return next((found for found in app.get("download_button") if found.key == "export-all"), None)


# ---- what a page collects


@pytest.mark.parametrize("screen", nav.PAGES, ids=lambda screen: screen.name)
def test_every_figure_and_table_has_a_caption_and_a_source(screen: nav.Screen, site: SimpleNamespace) -> None:
    """Over what ships, as only that has every kind of figure."""
    app = site.open(screen.script)
    found, known = shown(app), {row["study"] for row in store.rows(queries.studies)}
    assert bool(found.figures) == (screen.name in headless.DEFAULT) == (button(app) is not None)
    for each in [*found.figures.values(), *found.tables.values()]:
        assert each.caption.endswith(".") and not re.search(r"  |\[|\*\*|`", each.caption), each.name  # plain text, for LaTeX too
        assert set(each.studies) <= known, each.name
        assert not re.search(r"[^\x00-\x7f]", export.escaped(each.caption)), each.caption
    assert all(each.studies or screen.name == "reproduction" for each in found.figures.values())  # a third party's figures have no study of ours


def test_visitors_share_nothing_and_a_page_forgets_the_last(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    one, other = site.open("pages/compare.py"), site.open("pages/compare.py", dataset="fashion_mnist")
    of = {name: [f"lethe-compare-{name}-cnn", f"lethe-compare-{name}-cnn-duel"] for name in ("digits", "fashion_mnist")}
    assert list(shown(one).figures) == of["digits"] and list(shown(other).figures) == of["fashion_mnist"]
    before = shown(one)
    one.switch_page("app.py").run()
    assert list(shown(one).figures) == ["lethe-overview-digits-cnn"]
    assert list(before.figures) == of["digits"]  # a file that is being made then is of the view that it was asked for


def test_a_fragment_that_runs_alone_replaces_its_own_figure() -> None:
    def page() -> None:
        import streamlit as st

        from pages.ui import export

        def part() -> None:
            turn = st.number_input("Turn", value=1, key="turn")
            export.figure("inner", lambda style, width, below: {}, panels=1, caption=f"Turn {turn:g}.")

        export.begin()
        export.figure("outer", lambda style, width, below: {}, panels=1, caption="Stays.")
        st.fragment(part)()

    app = AppTest.from_function(page).run()
    app.number_input(key="turn").set_value(2).run()
    assert {name: figure.caption for name, figure in shown(app).figures.items()} == {"outer": "Stays.", "inner": "Turn 2."}


# ---- the files


def test_a_zip_has_every_figure_and_table_and_says_where_they_come_from(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open("pages/compare.py", dataset="digits", methods=["msg", "ga"])
    content = bundle.files(nav.screen("compare"), shown(app))
    stem = "compare/lethe-compare-digits-cnn"
    assert set(content) == {*(f"{stem}{part}.{kind}" for part in ("", "-duel") for kind in ("pdf", "svg", "png", "csv", "tex")),
                            *(f"{stem}-duel-intervals.{kind}" for kind in ("csv", "tex")), "compare/captions.md", "compare/captions.tex"}
    assert content[f"{stem}.pdf"].startswith(b"%PDF") and content[f"{stem}.png"].startswith(b"\x89PNG") and b"MSG" in content[f"{stem}.svg"]
    told = content["compare/captions.md"].decode()
    assert told.count("\n## ") == 5 and "180 mm wide" in told
    for fact in ("½ is best", "95 % intervals", "10 seeds", "commit 0123abc", "computed 20", "checks passed", "10\u202f% forgotten",
                 "`/compare?area=none&dataset=digits&duel=msg%2Cga&duel_metric=test_retention&duel_over=main&methods=msg&methods=ga&model=cnn&x=both",
                 "export-figures --page compare --query 'area=none&dataset=digits&duel=msg%2Cga&",
                 "python -m engine study run data/studies/embedded.yaml"):
        assert fact in told, fact
    floats = content["compare/captions.tex"].decode()
    assert r"\includegraphics[width=180mm]{lethe-compare-digits-cnn}" in floats and not re.search(r"[^\x00-\x7f]", floats)
    packed = bundle.zipped(content)
    assert packed == bundle.zipped(bundle.files(nav.screen("compare"), shown(app)))
    with zipfile.ZipFile(io.BytesIO(packed)) as archive:
        assert archive.testzip() is None and {name: archive.read(name) for name in archive.namelist()} == content


def test_a_figure_higher_than_a_page_takes_two_columns() -> None:
    def build(style: Any, width: float, below: bool) -> dict[str, Any]:
        return {"data": {"values": [{"x": 1}]}, "mark": "point", "width": width, "height": 800, "encoding": {"x": {"field": "x", "type": "quantitative"}}}

    found = Collected(figures={"tall": export.Figure("tall", build, 1, "Tall.", ())})
    told = bundle.files(nav.screen("compare"), found, kinds=["SVG"])["compare/captions.md"].decode()
    assert "180 mm wide" in told
    assert "60 mm wide" in bundle.files(nav.screen("compare"), found, kinds=["SVG"], millimetres=60)["compare/captions.md"].decode()


def test_html_stands_alone() -> None:
    def build(style: Any, width: float, below: bool) -> dict[str, Any]:
        return {"data": {"values": [{"x": 1}]}, "mark": "point", "width": width, "height": 100, "encoding": {"x": {"field": "x", "type": "quantitative"}}}

    html = export.drawn(build, "HTML", 88, 1).decode()
    assert html.startswith("<!DOCTYPE html>") and '"width":900' in html.replace("900.0", "900") and '"actions":false' in html
    assert not re.search(r"""(?:src|href)\s*=\s*["']https?:""", html)
    found = Collected(figures={"one": export.Figure("one", build, 1, "One.", ())})
    assert {"compare/one.html"} == {name for name in bundle.files(nav.screen("compare"), found, kinds=["HTML"]) if "captions" not in name}


def test_a_figure_that_cannot_be_drawn_is_named() -> None:
    found = Collected(figures={"broken": export.Figure("broken", lambda style, width, below: {"mark": "no such mark"}, 1, "Broken.", ())})
    with pytest.raises(RunError, match="broken: this figure of Compare cannot be drawn"):
        bundle.files(nav.screen("compare"), found)


def test_a_caption_names_every_study_once(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    both = list(full.studies.values())
    told = captions.made_from([*both, *both, "no such study"])
    assert told.count("study “") == 2 and "4 seeds" in told and "is not settled: too few models" in told
    assert len(captions.again([*both, *both])) == 2


# ---- without a browser


def test_headless_gives_what_the_page_gives(site: SimpleNamespace, full: Shipped, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    site.ship(full)
    query = shown(site.open("pages/compare.py", methods=["msg", "ga"], pick="ga/corrected")).query
    assert headless.write(headless.Request(pages=["compare"], query=query, zip=str(tmp_path / "f.zip")))["files"] == 14
    site_made = bundle.zipped(bundle.files(nav.screen("compare"), shown(site.open("pages/compare.py", **parse_qs(query)))))
    assert (tmp_path / "f.zip").read_bytes() == site_made
    assert "compare: 2 figures, 3 tables" in capsys.readouterr().err
    document = headless.write(headless.Request(pages=["compare", "overview", "compare"], query="?dataset=digits", out=str(tmp_path / "out"), **SMALL, width=88))
    assert list(document["pages"]) == ["compare", "overview"]
    there = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    assert document["files"] == len(there) and "overview/lethe-overview-digits-cnn.svg" in there and not any(path.endswith(".pdf") for path in there)
    assert "--format svg --width 88" in (tmp_path / "out" / "compare" / "captions.md").read_text(encoding="utf-8")


def test_headless_starts_no_engine_for_pictures(site: SimpleNamespace, attacked: Shipped, monkeypatch: pytest.MonkeyPatch) -> None:
    site.ship(attacked)
    monkeypatch.setattr("pages.ui.pictures.ask", lambda *arguments: pytest.fail("pictures were asked for"))
    assert headless._shown(nav.screen("privacy"), {}).figures


@pytest.mark.parametrize(("asked", "message"), [
    ({"pages": ["compar"]}, "--page compar: there is no such page (did you mean compare?)"),
    ({"kinds": ["pdf", "gif"]}, "--format gif: must be among pdf, svg, png, html"),
    ({"width": 5.0}, "--width: got 5, must be in [40, 400] mm"),
    ({"query": "dataset"}, "--query dataset: must be NAME=VALUE"),
    ({"query": "dataset=digit"}, "--query dataset=digit: nothing here has that (did you mean digits?); there are: digits, fashion_mnist"),
    ({"query": "dataset=digits&model=resnet18"}, "--query model=resnet18: nothing here has that; there are: cnn"),
    ({"query": "methods=msg&methods=gaa"}, "--query methods=gaa: nothing here has that (did you mean ga?)"),
    ({"query": "study=embedded"}, "--query study=embedded: nothing here has that"),
    ({"query": "variant=oficial"}, "--query variant=oficial"),
    ({"pages": ["compare"], "query": "datset=digits"}, "--query datset: compare has no such filter (did you mean dataset?)"),
    ({"pages": ["consistency"], "query": "c_method=x"}, "--query c_method=x: consistency has nothing of that name; it would show c_method=msg/corrected"),
    ({"pages": ["data"]}, "--page data: no figures with its first view"),
])
def test_headless_refuses_and_writes_nothing(asked: dict[str, Any], message: str, site: SimpleNamespace, full: Shipped, tmp_path: Path) -> None:
    site.ship(full)
    folder = tmp_path / "here"
    folder.mkdir()
    with pytest.raises(BadInput) as error:
        headless.write(headless.Request(**{"pages": ["compare"], "out": str(folder / "out"), **asked}))
    assert message in str(error.value)
    assert list(folder.iterdir()) == []


def test_headless_writes_over_nothing(site: SimpleNamespace, full: Shipped, empty: Shipped, tmp_path: Path) -> None:
    site.ship(full)
    for asked, message in (({"out": str(tmp_path)}, "it is there already"), ({"zip": str(tmp_path / "no" / "f.zip")}, "does not exist; make it first"),
                           ({"out": "a", "zip": "b"}, "give one of them")):
        with pytest.raises(BadInput, match=message):
            headless.write(headless.Request(**asked))
    site.ship(empty)
    with pytest.raises(BadInput, match="--page compare: no figures with its first view"):
        headless.write(headless.Request(pages=["compare"], out=str(tmp_path / "out")))
    site.ship(Shipped(tmp_path / "gone.duckdb", empty.catalogue, {}))
    with pytest.raises(StoreError, match=r"gone\.duckdb"):
        headless.write(headless.Request(out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_command_line(tmp_path: Path) -> None:
    """The whole way, over what ships: twice the same bytes, the answer alone on standard output, progress alone on standard error."""
    def ran(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "engine", "export-figures", *arguments], cwd=ROOT, capture_output=True, text=True, check=False)

    files = [tmp_path / name for name in ("one.zip", "two.zip")]
    for file in files:
        made = ran("--page", "compare", "--format", "svg", "--zip", str(file), "--json")
        assert made.returncode == 0 and made.stderr == "compare: 2 figures, 3 tables\n"
        names = ["lethe-compare-digits-cnn", "lethe-compare-digits-cnn-duel", "lethe-compare-digits-cnn-duel-intervals"]
        assert json.loads(made.stdout) == {"path": str(file), "files": 10, "pages": {"compare": {"figures": names[:2], "tables": names}}}
    assert files[0].read_bytes() == files[1].read_bytes()
    refused = ran("--page", "compare", "--zip", str(files[0]), "--width", "1")
    assert refused.returncode == 2 and refused.stdout == ""
    assert [line.partition(" ")[0] for line in refused.stderr.splitlines()] == ["--width:", "--zip"]


def test_every_name_that_pages_read_from_the_address_is_known() -> None:
    """Else `--query` would refuse what a copied address says."""
    sources = [path.read_text(encoding="utf-8") for path in [ROOT / "app.py", *(ROOT / "pages").rglob("*.py")] if path.name != "filters.py"]
    read = {name for text in sources for name in re.findall(r'query_params(?:\.get\(|\.get_all\(|\[)"(\w+)"', text)}
    linked = {name for text in sources for name in re.findall(r'filters\.linked\("(\w+)"', text)}
    assert read and read <= linked | filters.SHARED | set(filters._PICKED)


# ---- the glossary


def test_every_metric_attack_and_method_has_one_entry(site: SimpleNamespace) -> None:
    known = store.catalogue()
    found = glossary.entries(known)
    slugs = [entry.slug for entry in found]
    assert len(slugs) == len(set(slugs)) and all(entry.text and entry.text.isprintable() | ("\n" in entry.text) for entry in found)
    named = [metric for term in vocabulary.TERMS for metric in term.metrics]
    assert len(named) == len(set(named)) and set(named) <= set(METRICS)
    texts = " ".join(entry.text for entry in found)
    assert all(f"*{metric.axis}*" in texts and metric.doc in texts for metric in METRICS.values())
    assert {glossary.slug(method["label"]) for method in known["methods"]} <= set(slugs)
    assert all(attack["doc"] in texts for attack in known["attacks"])
    assert all(attack in {one["name"] for one in known["attacks"]} for term in vocabulary.TERMS for attack in term.attacks)


def test_the_glossary_knows_what_no_term_is_about(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METRICS, "new", Metric("New metric", "New", "down", "seconds", "Made up."))
    known = {"methods": [{"name": "mine", "label": "Mine", "family": "own", "paper": "arXiv:2401.00001", "doc": "Mine, my own: forgets.\n\nMore."}],
             "attacks": [{"name": "new", "label": "New attack", "doc": "Sees all.", "paper": ""}]}
    found = {entry.name: entry for entry in glossary.entries(known)}
    assert found["Mine"].text == "My own: forgets. *Family: own.*" and found["Mine"].source == "[arXiv:2401.00001](https://arxiv.org/abs/2401.00001)"
    assert (found["New metric"].text, found["New metric"].group) == ("*New metric (lower is better)*, in seconds. Made up.", "Other metrics")
    assert (found["New attack"].text, found["New attack"].group) == ("Sees all.", "Attacks")


@pytest.mark.parametrize(("text", "first"), [
    ("ulira", "U-LiRA"), ("nemenyi", "Friedman and Nemenyi"), ("φ", "Logit-scaled confidence (phi)"), ("jensen", "JS divergence"),
    ("epsilon", "Epsilon lower bound"), ("critical difference", "Critical difference"), ("arXiv:2302.09880", "NG+")])
def test_terms_are_found_by_other_words(text: str, first: str) -> None:
    found = glossary.matching(glossary.entries(store.catalogue()), text)
    assert found[0].name == first


def test_the_glossary_is_a_click_away_and_has_addresses(site: SimpleNamespace, full: Shipped) -> None:
    site.ship(full)
    app = site.open("pages/compare.py")
    assert not app.text_input
    app.button(key="glossary-open").click().run()
    assert app.query_params["glossary"] == glossary.ALL and "balanced accuracy" in " ".join(text.value for text in app.markdown)
    app.text_input(key="glossary-find").set_value("no such word").run()
    assert any("No term has these words" in info.value for info in app.info)
    app = site.open("pages/compare.py", glossary="holm")
    assert app.text_input(key="glossary-find").value == "Holm"
    assert any(text.value.startswith("**Holm.**") for text in app.markdown)
    assert "glossary" not in shown(app).query
    app = site.open("pages/compare.py", glossary="nonsense")
    assert any("There is no term `nonsense`" in caption.value for caption in app.caption)
