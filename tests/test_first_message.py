"""What a board sends before anything is drawn stays small, however long the text is."""

import json

import pytest
import torch
from ipywidgets.widgets.widget import _remove_buffers

from gptviz.dashboards import explore, parts
from gptviz.model import GPT, GPTConfig
from gptviz.trace import record

MOST = 1_500_000  # bytes


@pytest.mark.parametrize("n_tokens", [64, 117, 128, 512, 1024])  # 117: the longest of which every pattern travels whole
def test_all_views_of_144_heads_begin_with_less_than_a_message_of_1_5_mb(n_tokens):
    config = GPTConfig(block_size=n_tokens, vocab_size=200, n_layer=12, n_head=12, n_embd=24)
    torch.manual_seed(n_tokens)
    model = GPT(config).eval()
    ids = torch.randint(0, config.vocab_size, (n_tokens,))
    names = sorted({name for part in parts().values() for name in part.names})
    board = explore(record(model, ids, names=names), model)
    assert {view.kind for view in board.views} >= {"attention", "tokens", "lens", "writes", "querykey"}
    state, _, buffers = _remove_buffers(board.get_state())
    size = len(json.dumps(state)) + sum(memoryview(one).nbytes for one in buffers)
    board.close()
    assert 200_000 < size <= MOST  # the front end alone has the lower number of bytes
