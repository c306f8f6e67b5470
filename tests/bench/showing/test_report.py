"""Grids, the picture and the pages: all that a document says, and nothing that it doesn't."""

from __future__ import annotations

import io
import json
import re
import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image

from bench.documents import document
from browsing import outside_requests
from specvlm.bench import performance
from specvlm.bench.showing import plots, renderings
from specvlm.bench.showing.report import Grid, grids, introduction, limits, phases, speeds, stem, steps
from specvlm.drawing import DARK, DPI, LIGHT, as_png, new_figure
from specvlm.errors import OptionError

DOCS = Path(__file__).parents[3] / "docs"


def test_every_grid_is_rectangular_and_says_something():
    found = grids(document())
    assert len(found) == 2 * 3 + 2
    for grid in found:
        assert grid.title
        assert grid.rows
        assert {len(row) for row in grid.rows} == {len(grid.head)}


def test_speeds():
    first, second = speeds(document())
    assert first.title == "Speed: 145 video tokens (16 frames), answers of up to 64 tokens"
    assert "289 video tokens" in second.title
    cells = dict(zip(first.head, first.rows[2], strict=True))
    assert cells == {
        "arm": "specvlm@0.9",
        "tokens": "64",
        "same": "no, 17",
        "acceptance": "4.20",
        "kept": "14",
        "tokens/s": "10.0 (9.00, 11.0)",
        "first token, s": "1.25 (1.20, 1.30)",
        "decode": "3.00 x",
        "end to end": "2.25 x",
        "memory, GB": "1.50",
    }
    assert any(note.startswith("specvlm@0.9: ") for note in first.notes)
    assert any("bonus token included" in note for note in first.notes)


def test_phases_have_a_column_for_each_arm_and_no_empty_row():
    first, _ = phases(document())
    assert first.head == ("seconds", "ar", "loop", "specvlm@0.9")
    assert [row[0] for row in first.rows] == ["prefill target", "draft", "verify", "total"]
    assert first.rows[1] == ("draft", "", "", "0.600")


def test_limits_leave_blank_what_is_not_known():
    first, _ = limits(document())
    assert first.rows[0] == ("ar", "1.25 x", "", "", "1.25 x", "1.00 x", "100 %", "", "", "4.20 x", "71 %")
    assert first.rows[2][-6:] == ("4.20 x", "71 %", "4.20 x", "71 %", "4.20 x", "71 %")


def test_steps_are_compared_with_one_row_of_stock():
    [grid] = steps(document())
    assert grid.rows == (("1", "91.0", "0.91 x"), ("26", "116.0", "1.16 x"))


def test_the_introduction_names_what_was_left_out_and_what_was_done_to_the_models():
    assert any("assisted was left out: ValueError: no assistant" in line for line in introduction(document()))
    assert not any("end of an answer" in line for line in introduction(document()))
    assert any("end of an answer" in line for line in introduction(document(exact_length=True)))
    assert not any("read the video once" in line for line in introduction(document()))
    assert any("read the video once" in line for line in introduction(document(share_reading=True)))


def test_the_html_page_needs_nothing_else():
    text = renderings.page(document(), "specvlm bench --html a.html")
    assert text.startswith("<!doctype html>")
    assert "A &lt;fast&gt; CPU" in text
    assert "<fast>" not in text
    assert text.count("<table>") == len(grids(document()))
    assert text.count("<picture>") == len(plots.panels(document())) == 4
    assert outside_requests(text) == []
    assert '<code id="command">specvlm bench --html a.html</code>' in text


def test_the_pages_headline_tells_the_gain_and_the_loss_that_the_document_has():
    told = renderings.headline_of(document())
    assert "2.25 times as fast as from stock generate (SpecVLM, 90 % pruned, 289 video tokens)" in told.text
    assert "decoded 3.00 times as fast" in told.text
    assert (told.lossless, "2 of 4 answers differ" in told.text) == (False, True)
    same = document()
    same["arms"] = [arm | {"identical": True} for arm in same["arms"]]
    told = renderings.headline_of(same)
    assert told.lossless
    assert "at no loss: all 4 answers are the same" in told.text
    same["arms"] = [arm for arm in same["arms"] if arm["arm"] == "ar"]
    assert "neither gain nor loss is known" in renderings.headline_of(same).text


def test_a_telephone_sees_the_ways_that_prune():
    first, _ = phases(document())
    assert [first.head[column] for column in first.narrow] == ["seconds", "ar", "loop", "specvlm@0.9"]
    first, _ = speeds(document())
    assert [first.head[column] for column in first.narrow] == ["arm", "same", "decode", "end to end"]


@pytest.mark.parametrize(("ending", "begins"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_picture_is_of_the_kind_that_its_name_ends_with(ending, begins, tmp_path):
    plots.write(document(), tmp_path / f"bench{ending}")
    assert (tmp_path / f"bench{ending}").read_bytes().startswith(begins)


def test_the_same_document_makes_the_same_picture():
    assert plots.panels(document()) == plots.panels(document())
    other = document()
    other["arms"][-1] |= {"decode_speedup": 3.5}
    assert plots.panels(document()) != plots.panels(other)


def test_on_both_grounds_the_picture_is_sharp_and_not_the_same(tmp_path):
    written = plots.write_both(document(), tmp_path, "bench")
    assert [path.name for path in written] == ["bench.png", "bench-dark.png"]
    light, dark = (Image.open(path).convert("RGB") for path in written)
    assert light.size == dark.size
    assert light.width == round(DPI * plots.WIDTH) == 2600
    grounds = [image.getpixel((2, 2)) for image in (light, dark)]
    assert ["#{:02x}{:02x}{:02x}".format(*ground) for ground in grounds] == [LIGHT.ground, DARK.ground]


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_nothing_is_clipped_and_no_label_lies_on_another(theme):
    with plots._figure(document(), theme) as figure:
        figure.set_dpi(DPI)
        pixels = np.asarray(Image.open(io.BytesIO(as_png(figure))).convert("RGB"))
        for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
            assert (edge == pixels[0, 0]).all()
        for axes in (axes for part in figure.subfigs for place in part.subfigs for axes in place.axes):
            boxes = [Text.get_window_extent(text).shrunk(0.9, 0.9) for text in axes.texts if text.get_text()]
            assert not any(one.overlaps(other) for one, other in combinations(boxes, 2))


def test_a_panel_by_itself_is_whole_too():
    for draw, height in plots._panels(document(), LIGHT):
        with new_figure(plots.A_PANEL, height) as figure:
            draw(figure.add_subplot())
            pixels = np.asarray(Image.open(io.BytesIO(as_png(figure))).convert("RGB"))
        for edge in (pixels[:2], pixels[-2:], pixels[:, :2], pixels[:, -2:]):
            assert (edge == 255).all()


def test_a_picture_of_a_single_prompt_has_no_lines_over_prompts():
    one = document()
    one["cells"] = one["cells"][-1:]
    one["arms"] = one["arms"][-3:]
    one["costs"] = {"steps": [], "growth": []}
    text = "".join(plots.panels(one))
    assert "Where the time goes" in text
    assert "by the length of the prompt" not in text
    assert "by the length of the prompt" in "".join(plots.panels(document()))


def test_an_ending_that_nobody_knows_is_refused(tmp_path):
    with pytest.raises(OptionError, match=r"bench\.xyz"):
        plots.write(document(), tmp_path / "bench.xyz")


def test_without_matplotlib_it_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(OptionError, match="pip install matplotlib"):
        plots.panels(document())


def test_the_readmes_table_tells_what_each_step_adds(capsys):
    name = "pocket-llava_onevision-float32"
    performance.main(["--folder", str(DOCS / "bench"), "--headline", name])
    head, _, decoding, whole = (line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines())
    assert head[3:] == ["specvlm's loop alone", "plain speculation", "SpecVLM, 90 % pruned", 'SpecVLM, `plan="auto"`']
    arms = {
        arm["arm"]: arm
        for arm in performance.longest(json.loads((DOCS / "bench" / f"{name}.json").read_text()))["arms"]
    }
    assert decoding[3] == f"{arms['loop']['decode_speedup']:.2f} x"
    assert whole[3] == f"{arms['loop']['end_to_end_speedup']:.2f} x"
    assert len(head) == len(decoding) == len(whole) == 1 + len(performance.HEADLINE)


def test_the_page_of_performance(tmp_path, monkeypatch):
    folder = tmp_path / "bench"
    folder.mkdir()
    for pair in ("pocket-llava_onevision", "pocket-qwen2_5_vl"):
        made = document(pair=pair)
        (folder / f"{stem(made)}.json").write_text(json.dumps(made))
    (folder / "questions-a.json").write_text('{"later": 3}')
    chapter = {"questions": lambda made: Grid("Many questions", ("later",), ((str(made["later"]),),), ("A note.",))}
    monkeypatch.setattr(performance, "CHAPTERS", chapter)
    performance.main(["--folder", str(folder), "--page", str(tmp_path / "performance.md")])
    text = (tmp_path / "performance.md").read_text()
    assert text.count("\n## pocket-") == 2
    assert 'srcset="bench/pocket-qwen2_5_vl-float32-dark.png"' in text
    assert 'growth of pocket-qwen2_5_vl-float32" src="bench/pocket-qwen2_5_vl-float32.png"' in text
    assert "| pocket-qwen2_5_vl, float32 | specvlm@0.9 | 289 | 64 | no, 17 | 4.20 | 3.00 x | 2.25 x |" in text
    assert "## Many questions\n\n| later |\n|---|\n| 3 |" in text
    assert text.count("bonus token included") == text.count("- A note.") == 1


def test_without_a_document_there_is_no_page(tmp_path):
    with pytest.raises(SystemExit):
        performance.main(["--folder", str(tmp_path), "--page", str(tmp_path / "performance.md")])
    assert not (tmp_path / "performance.md").exists()


def test_the_published_page_is_made_of_the_published_documents():
    page, folder = DOCS / "performance.md", DOCS / "bench"
    expected = performance.page(folder, "bench") if [*folder.glob("*.json")] else None
    found = page.read_text(encoding="utf-8") if page.exists() else None
    assert found == expected, "stale: python -m specvlm.bench.performance"


def test_the_readmes_speedups_are_those_of_the_page():
    table = [line for line in (DOCS.parent / "README.md").read_text().splitlines() if line.startswith("|")]
    found = re.findall(r"\d+\.\d\d x", "\n".join(table))
    page = (DOCS / "performance.md").read_text()
    summary = page[: page.index("\n## ")]
    assert len(found) > 10
    assert [speedup for speedup in found if f"| {speedup} |" not in summary] == []
