"""tasks: against Python's sorted() and +, minGPT's numbers, brute force over every prompt, and known bad models."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from gptviz.corpora import DataSource, source_from_spec
from gptviz.tasks import TASKS, AdditionTask, InductionTask, SortTask, Task, load_task, task_from_spec

SMALL = [SortTask(), SortTask(4, 5), AdditionTask(1), AdditionTask(2), InductionTask(), InductionTask(8, 16)]
ANSWERING = SMALL[:4]


def rng(seed=0):
    return np.random.Generator(np.random.PCG64(seed))


def sequences(task, split="train", n=500):
    x, y = task.batch(split, n, 64, rng())
    return np.concatenate([x, y[:, -1:]], axis=1), y


def truth(task):
    """A model that knows every answer: looks up what follows a text, by brute force over all prompts."""
    table = {bytes(prompt): bytes(answer) for prompt, answer in zip(task.prompts, task.answers, strict=True)}

    def logits_fn(ids):
        logits = np.zeros((*ids.shape, task.vocab_size), dtype=np.float32)
        for row, text in enumerate(ids):
            answer = table[bytes(text[: task.prompt_length].astype(np.uint8))]
            logits[row, -1, answer[len(text) - task.prompt_length]] = 1
        return logits

    return logits_fn


# --- the examples -------------------------------------------------------------------------------------------


def test_sorting_is_pythons():
    task = SortTask()
    prompts = {"".join(letters) for letters in itertools.product("ABC", repeat=6)}
    assert {task.tokenizer.decode(prompt) for prompt in task.prompts} == prompts
    assert len(task.prompts) == 729
    for prompt, answer in zip(task.prompts, task.answers, strict=True):
        assert task.tokenizer.decode(answer) == "".join(sorted(task.tokenizer.decode(prompt)))
    assert task.answer("CBABBC") == "ABBBCC"


@pytest.mark.parametrize("n_digits", [1, 2])
def test_addition_is_pythons(n_digits):
    task = AdditionTask(n_digits)
    assert len(task.prompts) == 100**n_digits
    for prompt, answer in list(zip(task.prompts, task.answers, strict=True))[:: 7 ** (n_digits - 1)]:
        a, b = task.tokenizer.decode(prompt).rstrip("=").split("+")
        assert task.tokenizer.decode(answer) == f"{int(a) + int(b):0{n_digits + 1}}"[::-1]


def test_three_digits_fit():
    assert AdditionTask(3).answer("999+007=") == "6001"


def test_shapes_are_mingpts():
    task = SortTask()
    x, y = task.batch("train", 5, 11, rng())
    assert (task.vocab_size, task.n_positions) == (3, 11)
    assert x.shape == y.shape == (5, 11)
    assert (y[:, :5] == -1).all()  # minGPT masks the first length - 1 targets
    assert (y[:, 5:] >= 0).all()
    assert x.dtype == y.dtype == np.int64


@pytest.mark.parametrize("task", ANSWERING, ids=repr)
@pytest.mark.parametrize("split", ["train", "val"])
def test_batches_are_prompts_with_their_answers(task, split):
    texts, y = sequences(task, split)
    for text in texts[:50]:
        decoded = task.tokenizer.decode(text)
        assert task.answer(decoded[: task.prompt_length]) == decoded[task.prompt_length :]
    assert np.array_equal(y[:, task.prompt_length - 1 :], texts[:, task.prompt_length :])
    assert (y[:, : task.prompt_length - 1] == -1).all()


@pytest.mark.parametrize("task", ANSWERING, ids=repr)
def test_no_prompt_is_in_both_splits(task):
    seen = {
        split: {bytes(text[: task.prompt_length]) for text in sequences(task, split, 5000)[0]}
        for split in ("train", "val")
    }
    assert not seen["train"] & seen["val"]
    assert len(task.rows["train"]) + len(task.rows["val"]) == len(task.prompts) == len(task.rows["all"])
    assert 0.15 < len(task.rows["val"]) / len(task.prompts) < 0.35


def test_the_split_never_changes():
    """A recorded run's validation prompts must stay unseen in a later version."""
    assert SortTask().rows["val"][:8].tolist() == [6, 9, 19, 20, 24, 28, 29, 33]
    assert len(SortTask().rows["val"]) == 188


@pytest.mark.parametrize("task", SMALL, ids=repr)
def test_the_same_state_draws_the_same_batches(task):
    first, second, third = (task.batch("train", 9, 64, rng(seed))[0] for seed in (3, 3, 4))
    assert np.array_equal(first, second)
    assert not np.array_equal(first, third)


# --- induction ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SMALL[4:], ids=repr)
def test_what_followed_a_letter_before_is_determined(task):
    ids, determined = task.sample(400, rng())
    assert ids.shape == (400, task.n_positions + 1)
    assert determined.shape == (400, task.n_positions)
    for text, mask in zip(ids.tolist(), determined, strict=True):
        pairs = list(itertools.pairwise(text))
        ring = {before: after for (before, after), yes in zip(pairs, mask, strict=True) if yes}
        assert len(set(ring.values())) == len(ring)  # each letter comes after one other
        for at, (before, after) in enumerate(pairs):
            if ring.get(before) == after:
                assert mask[at] == ((before, after) in pairs[:at])
            else:
                assert not mask[at]


def test_texts_are_mostly_walks_on_a_ring_of_their_own():
    task = InductionTask(8, 4000)  # rings of all 8 letters, walked so long that every pair is seen
    (text, other), _ = task.sample(2, rng())
    counts = np.zeros((8, 8))
    np.add.at(counts, (text[:-1], text[1:]), 1)
    share = counts / counts.sum(axis=1, keepdims=True)
    assert np.allclose(share.max(axis=1), 0.8 + 0.2 / 8, atol=0.06)
    assert np.allclose(np.sort(share, axis=1)[:, :-1], 0.2 / 8, atol=0.03)  # else any letter, equally often
    letter, after = 0, share.argmax(axis=1)
    walked = [letter := int(after[letter]) for _ in range(8)]
    assert sorted(walked) == list(range(8))
    assert any(after[a] != b for a, b in itertools.pairwise(other[:40].tolist()))


def test_a_text_has_8_to_16_letters_drawn_from_all():
    task = InductionTask(32, 400)
    ids, _ = task.sample(200, rng())
    sizes = {len(set(text)) for text in ids.tolist()}
    assert sizes == set(range(8, 17))
    assert set(ids[:, 0].tolist()) == set(range(32))


def test_no_fixed_distance_finds_the_copy():
    ids, _ = InductionTask().sample(400, rng())
    distances = []
    for text in ids.tolist():
        last = {}
        for at, letter in enumerate(text):
            if letter in last:
                distances.append(at - last[letter])
            last[letter] = at
    assert np.bincount(distances).max() / len(distances) < 0.1


def test_every_next_token_is_an_induction_target():
    task = InductionTask()
    x, y = task.batch("train", 64, 48, rng())
    assert x.shape == (64, 48)
    assert np.array_equal(x[:, 1:], y[:, :-1])


def looking_back(ids, vocab_size):
    """A model that gives what followed the earlier copies of each letter, as an induction head does."""
    logits = np.zeros((*ids.shape, vocab_size), dtype=np.float32)
    for row, text in enumerate(ids):
        for t in range(1, len(text)):
            earlier = np.flatnonzero(text[:t] == text[t])
            np.add.at(logits[row, t], text[earlier + 1], 1)
    return logits


def longest_ago(ids, vocab_size):
    """A model that gives the letter of the text that was seen longest ago: right on the ring, and matches nothing."""
    logits = np.zeros((*ids.shape, vocab_size), dtype=np.float32)
    for row, text in enumerate(ids.tolist()):
        last = {}
        for t, letter in enumerate(text):
            last[letter] = t
            for seen, at in last.items():
                logits[row, t, seen] = 1 + t - at
    return logits


def test_induction_accuracy_measures_looking_back():
    task = InductionTask(62, 48)
    assert task.accuracy(lambda ids: rng().random((*ids.shape, 62)), n=200) < 0.05
    assert task.accuracy(lambda ids: longest_ago(ids, 62), n=100) < 0.5
    assert task.accuracy(lambda ids: looking_back(ids, 62), n=100) > 0.9
    ids, _ = task.sample(200, np.random.default_rng(0))

    def oracle(asked):
        assert np.array_equal(asked, ids[:, :-1])
        return np.eye(62)[ids[:, 1:]]

    assert task.accuracy(oracle, n=200) == 1.0


def test_correct_judges_by_what_followed_most_often():
    task = InductionTask(26, 48)
    verdict = task.correct(task.tokenizer.encode("ABABCAB"))
    assert np.isnan(verdict[[0, 1, 2, 5]]).all()  # nothing followed A, B and C yet
    assert verdict[[3, 4, 6]].tolist() == [1, 0, 1]
    assert task.correct(task.tokenizer.encode("ABACACAB"))[-1] == 0  # C came twice, B once
    assert task.correct([]).shape == (0,)


def test_correct_agrees_with_what_a_text_determines():
    task = InductionTask(62, 48)
    ids, determined = task.sample(300, rng())
    agrees = [task.correct(text)[1:][mask] == 1 for text, mask in zip(ids, determined, strict=True)]
    assert np.mean(np.concatenate(agrees)) > 0.9


# --- how much is right --------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", ANSWERING[:3], ids=repr)
def test_a_model_that_knows_every_answer_has_accuracy_one(task):
    assert task.accuracy(truth(task)) == 1.0
    assert task.accuracy(truth(task), split="val") == 1.0


def test_accuracy_counts_whole_answers_over_every_prompt():
    task = SortTask()
    right = truth(task)

    def all_but_the_first_answer_token(ids):
        logits = right(ids)
        if ids.shape[1] == 6:
            logits[:, -1] = [1, 0, 0]  # always A
        return logits

    starts_with_a = sum("A" in "".join(p) for p in itertools.product("ABC", repeat=6))
    assert task.accuracy(all_but_the_first_answer_token) == starts_with_a / 729
    assert task.accuracy(lambda ids: np.eye(3)[ids] * 0 + [1, 0, 0]) == 1 / 729  # only AAAAAA sorts to AAAAAA


def test_accuracy_takes_nanogpts_logits_of_the_last_position():
    task = SortTask()
    right = truth(task)
    assert task.accuracy(lambda ids: right(ids)[:, -1:]) == 1.0


def test_logits_of_a_padded_vocabulary_are_cut():
    task = SortTask()
    right = truth(task)
    assert task.accuracy(lambda ids: np.concatenate([right(ids), right(ids)[..., :1] + 9], axis=-1)) == 1.0


@given(st.text("ABC", min_size=6, max_size=6), st.text("ABC", max_size=6))
def test_correct_compares_with_sorted(prompt, given_answer):
    task = SortTask()
    verdict = task.correct(task.tokenizer.encode(prompt + given_answer))
    assert np.isnan(verdict[:6]).all()
    assert verdict[6:].tolist() == [a == b for a, b in zip(given_answer, sorted(prompt), strict=False)]


def test_correct_of_an_unfinished_prompt_is_nan():
    assert np.isnan(SortTask().correct([0, 1])).all()


def test_correct_addition():
    task = AdditionTask(2)
    assert task.correct(task.tokenizer.encode("85+50=541"))[6:].tolist() == [1, 0, 1]  # 135, backwards


# --- names and specs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", SMALL, ids=repr)
def test_a_task_is_a_data_source_that_its_spec_brings_back(task):
    assert isinstance(task, DataSource)
    assert isinstance(task, Task)
    for again in (task_from_spec(task.spec()), source_from_spec(task.spec())):
        assert again.spec() == task.spec()
        assert np.array_equal(again.batch("val", 4, 64, rng())[0], task.batch("val", 4, 64, rng())[0])


def test_tasks_have_names():
    assert list(TASKS) == ["sort", "induction", "addition"]
    assert {type(load_task(name)) for name in TASKS} == {SortTask, InductionTask, AdditionTask}


# --- bad input ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("task", [SMALL[0], SMALL[2], SMALL[4]], ids=repr)
def test_a_bad_batch_is_refused(task):
    with pytest.raises(ValueError, match=r'"train" or "val"; got \'all\''):
        task.batch("all", 2, 64, rng())
    message = rf"reads {task.n_positions} tokens; its block_size is {task.n_positions - 1}"
    with pytest.raises(ValueError, match=message):
        task.batch("train", 2, task.n_positions - 1, rng())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: SortTask(0), r"length=0, n_symbols=3"),
        (lambda: SortTask(6, 1), r"n_symbols 2 to 26"),
        (lambda: SortTask(6, 27), r"n_symbols=27"),
        (lambda: SortTask(10, 10), r"at most a million prompts"),
        (lambda: AdditionTask(0), r"n_digits 1 to 3"),
        (lambda: AdditionTask(4), r"n_digits 1 to 3"),
        (lambda: InductionTask(7), r"n_symbols 8 to 62"),
        (lambda: InductionTask(32, 7), r"n_positions 8 to 65536; got n_symbols=32, n_positions=7\. Pass numbers"),
        (lambda: load_task("sorting"), r"one of sort, induction, addition; got 'sorting'\. Did you mean 'sort'"),
        (lambda: load_task("sort", size=3), r"called length, n_symbols; got size=3"),
        (lambda: task_from_spec({"kind": "task", "name": "sort", "settings": {"length": "6"}}), r"got length='6'"),
        (lambda: task_from_spec({"kind": "task", "name": "sort", "settings": {"length": 10**9}}), r"got length=10000"),
        (lambda: task_from_spec({"kind": "task", "name": "sort"}), r'"name" and "settings"'),
        (lambda: task_from_spec({"kind": "text"}), r'has "kind": "task"'),
        (lambda: SortTask().answer("CBA"), r"has 6 tokens, such as 'CCCCCC'; got 'CBA' with 3"),
        (lambda: SortTask().answer("CBX"), r"got 'X'"),
        (lambda: AdditionTask().answer("1+2+3="), r"2 digits, \+, 2 digits, =; got '1\+2\+3='"),
        (lambda: AdditionTask().answer("12345="), r"got '12345='\. Write it as '99\+99='"),
        (lambda: SortTask().correct([0] * 13), r"has 12 tokens, prompt and answer; got 13"),
        (lambda: SortTask().correct([3]), r"from 0 to 2"),
        (lambda: SortTask().accuracy(lambda ids: ids, split="test"), r'"all", "train" or "val"'),
        (lambda: SortTask().accuracy(lambda ids: ids), r"shape \[729, pos, 3\].*got \[729, 6\]"),
        (lambda: SortTask().accuracy(lambda ids: np.full((len(ids), 1, 3), np.nan)), r"got NaN"),
        (lambda: InductionTask().accuracy(lambda ids: np.zeros((512, 1, 32))), r"\[512, 48, 32\].*got \[512, 1, 32\]"),
    ],
)
def test_bad_input_gets_a_sentence(make, message):
    with pytest.raises(ValueError, match=message):
        make()
