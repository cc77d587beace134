"""Wrong kinds of things at every public door: each gets its sentence, none an AttributeError from the inside.

One process tries them all with annotations unchecked, as a user's would: the check that the tests switch on comes
before ours.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TABLE = Path(__file__).with_name("wrong_kinds.tsv")
ROWS = [line.split("\t") for line in TABLE.read_text(encoding="utf-8").splitlines() if not line.startswith("#")]

TRY_ALL = """
import json, math, sys, warnings
import numpy as np
import torch
import gptviz as gv
from gptviz import analysis as A, checkpoints as C, generation as G, tasks, tokenizers
from gptviz.analysis.statistics import Distribution
from gptviz.interventions import Edit
from gptviz.token_ids import check_ids, check_text

warnings.simplefilter("ignore")
model, tok = gv.load("sorter")
trace, run = gv.record(model, "CBABBC", tok), gv.open_run("sorter")
lin, met = torch.nn.Linear(2, 2), A.logit_difference(0, 1)
cfg = gv.GPTConfig(block_size=8, vocab_size=5, n_layer=1, n_head=2, n_embd=8)
small = gv.GPT(cfg)
said = []
for expression in json.load(sys.stdin):
    try:
        eval(expression)
        said.append(["nothing", ""])
    except Exception as error:
        said.append([type(error).__name__, str(error)])
print(json.dumps(said))
"""


@pytest.fixture(scope="module")
def said(tmp_path_factory) -> dict[str, list[str]]:
    """What each expression raised: the name of the error and its sentence."""
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parent.parent), "HF_HUB_OFFLINE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", TRY_ALL], input=json.dumps([row[0] for row in ROWS]), capture_output=True, text=True,
        env=environment, cwd=tmp_path_factory.mktemp("elsewhere"), timeout=1200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return {row[0]: answer for row, answer in zip(ROWS, json.loads(done.stdout), strict=True)}


@pytest.mark.parametrize(("expression", "kind", "sentence"), ROWS, ids=[row[0] for row in ROWS])
def test_a_wrong_kind_gets_a_sentence(said, expression, kind, sentence):
    assert said[expression][0] == kind, said[expression]
    assert said[expression][1].startswith(sentence)
