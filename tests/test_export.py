import base64
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from browser import synthetic

from gptviz.dashboards import explore, step_through, watch
from gptviz.export import export_html, save
from gptviz.loading import load
from gptviz.trace import record
from gptviz.views import attention_view, training_view
from gptviz.widgets import STATIC, Board

REPOSITORY = Path(__file__).resolve().parent.parent

HOSTILE = '</script><img src=x onerror="document.title=1">'


@pytest.fixture
def page(tmp_path):
    board = synthetic.board(tokens=["a", HOSTILE, "·b"], n_layer=1, n_head=2, title=HOSTILE, text=HOSTILE)
    return export_html(board, tmp_path / "page.html").read_text(encoding="utf-8")


def test_page_holds_all_steps_and_no_way_out(page, capsys):
    text = re.search(r'id="gptviz-payload"[^>]*>(.*?)</script>', page, re.S).group(1)
    assert len(json.loads(text)["frames"]) == len(synthetic.STEPS)
    assert "http://" not in page
    assert "https://" not in page
    assert "default-src 'none'" in page


def test_policy_knows_our_script_by_its_hash(page):
    script = re.search(r'<script type="module">(.*?)</script>', page, re.S).group(1)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in page


def test_hostile_tokens_stay_text(page):
    assert "<img" not in page
    assert "&lt;/script&gt;&lt;img" in page  # the title


def test_size_is_printed(tmp_path, capsys):
    path = export_html(synthetic.board(8, 1, 1), tmp_path / "a.html", budget=20_000)
    said = capsys.readouterr().out
    assert f"wrote {path} (" in said
    assert "steps, evenly in their order, to keep the page small" in said


def test_views_alone_make_a_page(tmp_path):
    path = export_html(synthetic.views(0, synthetic.story(4), 1, 1), tmp_path / "views.html")
    assert path.stat().st_size < 400_000


def test_export_errors(tmp_path):
    with pytest.raises(TypeError, match="export_html shows a Board or Views; it was given str"):
        export_html("heads", tmp_path / "a.html")
    with pytest.raises(ValueError, match="folder of an exported page must exist"):
        export_html(synthetic.board(4, 1, 1), tmp_path / "no" / "a.html")


def test_bundle_is_small():
    import gzip

    assert len(gzip.compress((STATIC / "board.js").read_bytes())) <= 150_000


def test_bundle_has_no_door_for_html():
    """Words reach the page as text only."""
    banned = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|https?://")
    sources = [*REPOSITORY.glob("js/*.ts"), *REPOSITORY.glob("js/views/*.ts"), STATIC / "board.js"]
    assert len(sources) > 10
    found = {path.name: banned.findall(path.read_text(encoding="utf-8")) for path in sources}
    assert {name: words for name, words in found.items() if words} == {}


@pytest.mark.skipif(not shutil.which("node") or not (REPOSITORY / "js/node_modules/esbuild").is_dir(),
                    reason="needs node and js/node_modules (make js)")
def test_committed_bundle_is_what_the_sources_give(tmp_path):
    subprocess.run(["node", "build.mjs", "--out", tmp_path], cwd=REPOSITORY / "js", check=True,
                   env={**os.environ, "NODE_NO_WARNINGS": "1"})
    for name in ("board.js", "board.css"):
        built = (tmp_path / name).read_text(encoding="utf-8")
        assert built == (STATIC / name).read_text(encoding="utf-8"), "run `make js` and commit gptviz/static"


def test_a_page_that_cannot_be_written_leaves_the_old_one_whole(tmp_path):
    page = tmp_path / "page.html"
    page.write_text("the old page", encoding="utf-8")
    folder = tmp_path / "folder.html"
    folder.mkdir()
    view = training_view({"train": (np.array([0, 1]), np.array([2.0, 1.0]))})
    with pytest.raises(OSError, match=r"folder.html must be writable; the system says: Is a directory"):
        export_html(view, folder)
    code = """
import resource, signal, sys
import numpy as np
from gptviz.export import export_html
from gptviz.views import training_view
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
export_html(training_view({"train": (np.array([0, 1]), np.array([2.0, 1.0]))}), sys.argv[1])
"""
    done = subprocess.run([sys.executable, "-c", code, str(page)], capture_output=True, text=True)
    assert "must be writable; the system says: File too large" in done.stderr
    assert page.read_text(encoding="utf-8") == "the old page"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.html", "page.html"]


def test_the_picture_of_a_board_holds_all_its_views_with_one_selection(tmp_path, capsys):
    board = synthetic.board(8, 2, 2, layer=1, head=0, query=5, key=3, title="tiny $x$")
    whole = save(board, tmp_path / "a.svg").read_bytes()
    assert capsys.readouterr().out == f"wrote {tmp_path / 'a.svg'}: Heads, Text, Loss\n"
    assert whole == save(board, tmp_path / "again.svg").read_bytes()
    assert whole != save(board, tmp_path / "b.svg", head=1).read_bytes()
    alone = save(board, tmp_path / "c.svg", view="attention", theme="dark").read_bytes()
    look = dict(layer=1, head=0, query=5, key=3)
    assert alone == save(board.views[0], tmp_path / "d.svg", theme="dark", **look).read_bytes()
    with pytest.raises(ValueError, match=r"one of this board's, attention, tokens, training; it is 'lens'"):
        save(board, tmp_path / "e.svg", view="lens")
    with pytest.raises(TypeError, match=r"keeps a View or a Board; it was given list"):
        save([board], tmp_path / "e.svg")


def test_the_picture_of_a_board_names_what_it_leaves_out(tmp_path, capsys):
    model, tokenizer = load("sorter")
    trace = record(model, "CBABBCABB", tokenizer)
    save(explore(trace, model, tokenizer), tmp_path / "explore.png")
    said = capsys.readouterr().out
    assert ": Heads, Head scores, Text, Next token, Logit lens, Residual writes; not in it: circuits, " in said
    assert "(folded at first; view= draws one of them alone); edits (nothing is edited)" in said
    assert save(explore(trace, model, tokenizer), tmp_path / "circuits.png", view="circuits").exists()
    save(watch("sorter"), tmp_path / "watch.png")
    assert "film (only in a page: a path that ends in .html)" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"stepper cannot. Write a page instead: a path that ends in .html"):
        save(step_through(trace, model, tokenizer), tmp_path / "step.png")


def test_save_as_a_page_says_its_size_and_what_it_left_out(tmp_path, capsys):
    tokens = synthetic.story(130)
    board = Board([attention_view(synthetic.pattern(12, 12, tokens), tokens)])
    page = save(board, tmp_path / "heads.html", budget=1_300_000)
    said = capsys.readouterr().out
    found = re.search(r"wrote .*heads\.html \(([\d,]+) kB\): this page holds (\d+) of 144 heads; the", said)
    assert found, said
    assert abs(int(found[1].replace(",", "")) * 1e3 - page.stat().st_size) < 1e3
    payload = board.payload(budget=1_300_000)
    assert len(payload["views"][0]["details"]) == int(found[2])
    assert 1 < int(found[2]) < 144


def test_a_place_beyond_a_text_that_was_shortened_in_python_is_no_longer_chosen(tmp_path):
    model, tokenizer = load("sorter")
    board = explore(record(model, "CBABBCABBB", tokenizer), model, tokenizer)
    board.query = 9
    board.text = "CBA"
    save(board, tmp_path / "board.svg", view="attention")
    assert (board.query, board.shown()[1]["query"]) == (None, 2)
