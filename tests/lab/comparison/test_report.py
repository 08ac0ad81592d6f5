"""The report: complete, self-contained, escaped, small."""

from __future__ import annotations

import base64
import csv
import io
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from PIL import Image

from agents.lab.comparison.curves import read_results
from agents.lab.comparison.report import report
from agents.lab.document import Document, Table
from agents.run.terminal import console
from tests.lab.comparison.synthetic import CURVES, ENVS, document, learn, result, write_comparison, write_run

VOID = {"meta", "img", "br", "link", "hr"}
HOSTILE = "<script>alert(1)</script> | `x` ![y](http://z) $\\frac{1}$ \"'&amp; 漢字"


class Reader(HTMLParser):
    """Gathers a page's tags and text, and checks that every tag that is opened is closed."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.text, self._open = [], "", []
        self.feed(html)
        assert not self._open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        self.text += data

    def all(self, tag):
        return [attrs for name, attrs in self.tags if name == tag]


def check(page):
    """Assert what holds for every report; return its page."""
    html = page.read_text(encoding="utf-8")
    reader = Reader(html)
    for tag, attrs in reader.tags:
        for name in ("src", "href", "action", "data", "poster", "srcset"):
            assert attrs.get(name, "#").startswith(("#", "data:image/png;base64,"))
        assert tag not in ("script", "iframe", "link", "object", "embed", "form")
        assert not [name for name in attrs if name.startswith("on")]
    assert "url(" not in html
    assert "@import" not in html
    assert "default-src 'none'" in html
    anchors = {attrs["id"] for attrs in reader.all("h2")}
    assert {attrs["href"][1:] for attrs in reader.all("a")} == anchors
    images = reader.all("img")
    for attrs in images:
        assert len(attrs["alt"]) > 20
        image = Image.open(io.BytesIO(base64.b64decode(attrs["src"].partition(",")[2])))
        assert image.size == (int(attrs["width"]), int(attrs["height"]))
    markdown = (page.parent / "report.md").read_text(encoding="utf-8")
    named = re.findall(r"^!\[.*\]\((\S+\.png)\)$", markdown, re.MULTILINE)
    assert len(named) == len(set(named)) == len(images)
    assert {path.name for path in page.parent.glob("*.png")} == set(named)
    for name in ("scores.csv", "curves.csv", "pairs.csv", "aggregate.csv"):
        assert (page.parent / name).stat().st_size
    return reader


def write_report(folder, out=None):
    """Write the report of a comparison; return its page."""
    return Path(report(folder, out or folder / "report", [], console(file=io.StringIO()))["report"])


def rows(file):
    with file.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def test_a_report_of_twelve_pairs_is_complete(tmp_path, sketched):
    tasks = [(env, algo) for env in ENVS for algo in ("ppo", "dqn")]
    write_comparison(tmp_path, tasks)
    page = write_report(tmp_path)
    reader = check(page)
    assert page == tmp_path / "report" / "index.html"
    assert len(reader.all("img")) == 24 + 1 + 3 + 1 + 3 + 2
    for part in ("verdict", "scores", "curves", "aggregates", "improvement", "profiles", "goal", "costs", "repeat"):
        assert part in {attrs["id"] for attrs in reader.all("h2")}
    order = [
        "Ours is better",
        "mean ± sd",
        "band reaches",
        "mean height",
        "IQM",
        "drawn blindly",
        "higher curve",
        "goal is",
        "peak MB",
    ]
    order += [
        "environments of their own",
        "What SB3 went without",
        "PPO: shared_torso",
        "lin_3e-4",
        "agents.compare",
        "A processor",
        "--import",
    ]
    text = " ".join(reader.text.split())
    places = [text.find(word, text.find("Repeat it")) for word in order]
    assert -1 not in places
    assert places == sorted(places)
    assert len(rows(page.parent / "scores.csv")) == 120
    compared = rows(page.parent / "pairs.csv")
    assert [row["measure"] for row in compared] == ["score", "mean return over training"] * 12
    assert len(rows(page.parent / "aggregate.csv")) == 3 * (2 * 4 + 1)


def test_numbers_of_the_report_are_those_of_the_runs(tmp_path, sketched):
    for seed, score in enumerate((10.0, 20.0, 30.0)):
        write_run(tmp_path, result("A-v0", "ppo", "ours", seed, returns=[score]), [(5, score, 1.5)])
        write_run(tmp_path, result("A-v0", "ppo", "sb3", seed, returns=[score / 2]), [(5, 0.0, 2.0)])
    content = document([("A-v0", "ppo")], ["ours", "sb3"], 3, references={"A-v0": {"random": 0.0, "threshold": 25.0}})
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    reader = check(write_report(tmp_path, tmp_path / "there"))
    assert "20.0 ± 10.0" in reader.text
    assert "10.0 ± 5.00" in reader.text
    pair = rows(tmp_path / "there" / "pairs.csv")[0]
    assert (pair["mean"], pair["sd_against"], pair["difference"], pair["seeds"]) == ("20", "5", "10", "3")
    scores = rows(tmp_path / "there" / "scores.csv")
    assert [row["normalised"] for row in scores[:3]] == ["0.4", "0.8", "1.2"]
    assert [row["steps_to_goal"] for row in scores] == ["inf", "inf", "5", "inf", "inf", "inf"]
    assert scores[2]["seconds_to_goal"] == "1.5"


def test_three_labels_one_imported(tmp_path):
    """Its pictures are drawn, and small."""
    labels = {"ours": (0.97, 9_000.0), "sb3": (0.7, 3_000.0), "no-norm": (0.5, 9_000.0)}
    write_comparison(tmp_path, [("CartPole-v1", "ppo"), ("Pendulum-v1", "ppo")], labels, seeds=3)
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "rllib.csv").write_text(CURVES)
    reader = check(write_report(tmp_path))
    assert sum(file.stat().st_size for file in (tmp_path / "report").iterdir()) < 1_000_000
    assert len(reader.all("img")) == 12
    assert "against" in reader.text
    assert "how they were measured is not known here" in reader.text
    assert [row["against"] for row in rows(tmp_path / "report" / "pairs.csv")] == [
        *("sb3", "no-norm", "rllib (imported)") * 2,
        *("sb3", "no-norm") * 2,
    ]
    curves = tmp_path / "report" / "curves.csv"
    assert {run.key[:2] for run in read_results(curves)} == {("CartPole-v1", "ppo"), ("Pendulum-v1", "ppo")}
    assert len(read_results(curves)) == 2 * 9 + 2  # what is exported can be imported


def test_imported_alone(tmp_path, sketched):
    (tmp_path / "imported").mkdir()
    (tmp_path / "imported" / "rllib.csv").write_text(CURVES)
    reader = check(write_report(tmp_path))
    assert "Nothing can be compared yet" in reader.text
    assert "400.1 ± 14.0" in reader.text


def test_one_seed_failures_and_unfinished_runs(tmp_path, sketched):
    failure = {"env": "CartPole-v1", "algo": "ppo", "label": "sb3", "seed": 1, "error": "MemoryError: no memory"}
    content = document([("CartPole-v1", "ppo")], ["ours", "sb3"], 2, failures=[failure])
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    for label in ("ours", "sb3"):
        learn(tmp_path, "CartPole-v1", "ppo", label, 0, 0.9, 1_000.0)
    reader = check(write_report(tmp_path))
    assert "MemoryError: no memory" in reader.text
    assert "1 run not finished" in reader.text
    assert "CartPole-v1, PPO, ours, seed 1" in reader.text
    assert "too few seeds" in reader.text
    assert "nan" not in re.findall(r"\w+", reader.text)


def test_what_the_doctor_said_of_runs(tmp_path, sketched):
    write_comparison(tmp_path, seeds=2)
    assert "doctor" not in {attrs["id"] for attrs in check(write_report(tmp_path)).all("h2")}
    run = next(path.parent for path in sorted(tmp_path.glob("runs/*/*/result.json")))
    found = {"illness": "dead units", "badness": 1.0, "evidence": HOSTILE, "fix": "--activation elu", "step": 1_200}
    (run / "doctor.jsonl").write_text(json.dumps(found) + "\n")
    reader = check(write_report(tmp_path))
    assert "doctor" in {attrs["id"] for attrs in reader.all("h2")}
    assert all(words in reader.text for words in ("dead units", "1,200", HOSTILE, "--activation elu"))


def test_nothing_finished(tmp_path, sketched):
    (tmp_path / "comparison.json").write_text(json.dumps(document([("A-v0", "ppo")], ["ours", "sb3"], 30)))
    reader = check(write_report(tmp_path))
    assert "60 runs not finished" in reader.text
    assert "and 20 more" in reader.text


def test_hostile_names_are_text(tmp_path):
    """In pictures too, which are drawn."""
    env, label = f"E/{HOSTILE}", "=cmd"
    failure = {"env": env, "algo": "ppo", "label": label, "seed": 9, "error": f"</table>{HOSTILE}\x1b[31m"}
    content = document([(env, "ppo")], ["ours", label], 2, failures=[failure], commands=["```\n<b>"])
    content["references"] = {env: {"random": 0.0, "threshold": 100.0}}
    (tmp_path / "comparison.json").write_text(json.dumps(content))
    for seed in range(2):
        for name in ("ours", label):
            write_run(tmp_path, result(env, "ppo", name, seed), [(10, 5.0, 1.0), (20, 6.0, 2.0)])
    reader = check(write_report(tmp_path))
    assert env in reader.text
    assert f"</table>{HOSTILE}" in reader.text
    assert {row["label"] for row in rows(tmp_path / "report" / "scores.csv")} == {"ours", "'=cmd"}
    markdown = (tmp_path / "report" / "report.md").read_text(encoding="utf-8")
    assert "<script>" not in "".join(re.findall(r"^<details>.*$", markdown, re.MULTILINE))
    markdown = re.sub(r"^(`{3,})\n.*?\n\1$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    markdown = re.sub(r"^<details>.*$", "", markdown, flags=re.MULTILINE)  # HTML, in which Markdown does not count
    assert "<script>" not in re.sub(r"\\.", "", markdown)
    assert "](http" not in re.sub(r"\\.", "", markdown)


def test_what_else_lies_in_the_folder_is_left_alone(tmp_path, sketched):
    write_comparison(tmp_path / "c", seeds=1)
    out = tmp_path / "out"
    out.mkdir()
    (out / "notes.txt").write_text("mine")
    (out / "curve-07-old-task-steps.png").touch()
    write_report(tmp_path / "c", out)
    assert (out / "notes.txt").read_text() == "mine"
    assert len(list(out.glob("curve-*.png"))) == 2


@pytest.mark.parametrize("width", [1, 3])
def test_documents(width):
    header, cells = ["a", "b", "c"][:width], ["1|2", "<i>", "x\ny"][:width]
    found = Document("T")
    found.heading("A & B", "ab")
    found.text("1 < 2")
    found.table(Table(header, [cells], 2))
    found.code("a ``` b")
    html, markdown = found.html(), found.markdown()
    assert "A &amp; B" in html
    assert "1 &lt; 2" in html
    assert html.count("<td") == width
    assert "| 1\\|2 |" in markdown
    assert "| --- |" in markdown if width == 1 else "| --- | --- | ---: |" in markdown
    assert "````\na ``` b\n````" in markdown
