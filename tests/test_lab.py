"""The form: what it says is what is trained."""

import pytest

from gptviz.dashboards.lab import lab


@pytest.fixture
def form():
    made = lab()
    yield made
    if made.run is not None:
        made.run.close()


def test_the_form_is_a_configuration(form):
    form.size.value = "2 layers, 4 heads, width 64"
    form.learning_rate.value, form.seed.value, form.steps.value = 3e-3, 7, 50
    config = form.config
    assert (config.task, config.corpus) == ("sort", None)
    assert (config.n_layer, config.n_head, config.n_embd, config.seed, config.max_iters) == (2, 4, 64, 7, 50)
    assert (config.learning_rate, config.max_megabytes) == (3e-3, 64)
    assert config.min_lr == pytest.approx(3e-4)


def test_a_file_of_ones_own_takes_the_place_of_the_list(form, tmp_path):
    (tmp_path / "own.txt").write_text("to be or not to be, that is the question. " * 50)
    form.path.value = str(tmp_path / "own.txt")
    assert form.config.corpus == str(tmp_path / "own.txt")
    form.estimate.click()
    assert form.words.value.startswith("About ")
    assert "of 64 MB on the disk" in form.words.value


def test_start_trains_and_shows_the_board(form):
    form.steps.value, form.size.value = 20, "1 layer, 2 heads, width 32"
    form.start.click()
    assert form.words.value.startswith("Started in")
    assert form.place.children == (form.board,)
    form.run.wait(600)
    assert form.run.status == "finished"
    assert form.run.steps[-1] == 20


def test_what_is_wrong_is_a_sentence_in_the_form(form):
    form.learning_rate.value = -1.0
    form.start.click()
    assert form.words.value.startswith("✕ learning_rate must be a finite number of at least 0; -1.0 was given")
    form.learning_rate.value, form.path.value = 1e-3, "no such file"
    form.estimate.click()
    assert form.words.value.startswith("✕ A corpus must be one of")
    form.path.value, form.steps.value = "", 1_000_000
    form.start.click()
    form.start.click()
    assert form.words.value.startswith("✕ A training is under way")
    form.estimate.click()
    assert form.words.value.startswith("✕ A training is under way")
