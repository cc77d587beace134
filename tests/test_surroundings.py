"""What the instrument meets outside itself: data-parallel wrappers, random states, every way out, a thousand visits."""

import gc
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from by_hand import IDS, make_model
from torch.nn.parallel import DistributedDataParallel

from gptviz import analysis
from gptviz.generation import generate, stream
from gptviz.interventions import IneffectiveEditError, ablate_head, intervene, scale_head
from gptviz.naming import AXES
from gptviz.trace import record

# --- data parallelism ------------------------------------------------------------------------------------------------


@pytest.fixture
def process_group(tmp_path):
    """A real group of one process, over gloo."""
    dist.init_process_group("gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1)
    yield
    dist.destroy_process_group()


def assert_same(ours, theirs):
    for name in AXES:
        torch.testing.assert_close(ours[name], theirs[name], rtol=0, atol=0, equal_nan=True)


def test_a_model_in_distributed_data_parallel_is_recorded_edited_and_sampled(process_group):
    model = make_model()
    wrapped = DistributedDataParallel(model)
    trace = record(wrapped, IDS)
    assert_same(trace, record(model, IDS))
    assert trace.notes == ("Recorded through the module inside DistributedDataParallel.",)
    gradients = [record(each, IDS, grad=True).gradient("mlp_post") for each in (wrapped, model)]
    assert torch.equal(*gradients)
    with intervene(wrapped, ablate_head(1, 0)) as report:
        idx = torch.tensor([IDS])
        through_the_wrapper, _ = wrapped(idx, idx)
        edited = record(wrapped, IDS)
    torch.testing.assert_close(through_the_wrapper[0].detach(), edited["logits"], rtol=1e-5, atol=1e-5)
    assert report[0].fired == 2
    assert generate(wrapped, IDS[:3], 5, temperature=0) == generate(model, IDS[:3], 5, temperature=0)


def test_a_recording_between_two_steps_of_data_parallel_training_changes_no_gradient(process_group):
    def gradients(look):
        model = make_model()
        wrapped, idx = DistributedDataParallel(model), torch.tensor([IDS])
        for _ in range(2):  # the reducer counts forward passes: one too many would show in the second step
            wrapped.zero_grad()
            wrapped(idx, idx)[1].backward()
            if look:
                record(wrapped, IDS, grad=True)
        return [parameter.grad.clone() for parameter in model.parameters()]

    for watched, alone in zip(gradients(look=True), gradients(look=False), strict=True):
        assert torch.equal(watched, alone)


def record_in_one_of_two(rank: int, folder: str) -> None:
    """One of two processes: recorded through the wrapper, between two steps of training."""
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    wrapped, idx = DistributedDataParallel(make_model()), torch.tensor([IDS[rank:]])
    wrapped(idx, idx)[1].backward()
    trace = record(wrapped, IDS)  # by one rank more often than by the other: nothing waits for the other
    if rank:
        record(wrapped, IDS)
    wrapped(idx, idx)[1].backward()
    gradient = wrapped.module.lm_head.weight.grad
    torch.save({name: trace[name] for name in AXES} | {"gradient": gradient}, f"{folder}/{rank}.pt")
    dist.destroy_process_group()


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_each_of_two_processes_records_its_replica(tmp_path):
    torch.multiprocessing.spawn(record_in_one_of_two, (str(tmp_path),), nprocs=2)
    found = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in range(2)]
    alone = record(make_model(), IDS)
    for values in found:
        assert_same(values, alone)
    assert torch.equal(found[0]["gradient"], found[1]["gradient"])


# --- every way out ---------------------------------------------------------------------------------------------------


def state() -> dict:
    """All that a visit must leave as it was, comparable.

    Python's own random state is asked for below: here the check of annotations draws from it.
    """
    return {
        "torch": torch.get_rng_state().tolist(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "grad": torch.is_grad_enabled(),
        "inference": torch.is_inference_mode_enabled(),
        "threads": torch.get_num_threads(),
    }


class Wrong(Exception):
    """Raised on the way."""


def fail(*_):
    raise Wrong


def by_an_exception_in_a_hook(model):
    handle = model.hook_points["mlp_pre", 1].register_forward_hook(fail)
    try:
        record(model, IDS)
    finally:
        handle.remove()


def by_an_exception_in_the_block(model):
    with intervene(model, ablate_head(1, 0)):
        record(model, IDS)
        raise Wrong


def by_an_edit_that_did_nothing(model):
    with intervene(model, scale_head(1, 0, 1.0)):
        record(model, IDS)


def by_a_stream_left_half_way(model):
    tokens = stream(model, IDS[:2], 30, seed=1)
    with intervene(model, ablate_head(1, 0)):
        next(tokens)
    next(tokens)
    del tokens


def by_a_block_left_half_way(model):
    def generator():
        with intervene(model, ablate_head(1, 0)):
            yield record(model, IDS)

    next(generator())


def by_traces_left_half_way(model):
    next(analysis.traces_over(model, [IDS, IDS[::-1]], batch_size=1))


WAYS_OUT = {
    "a recording": (lambda model: record(model, IDS), None),
    "a recording with gradients": (lambda model: record(model, IDS, grad=True), None),
    "an exception in the scalar": (lambda model: record(model, IDS, grad=fail), Wrong),
    "an exception in a hook": (by_an_exception_in_a_hook, Wrong),
    "an exception under intervene": (by_an_exception_in_the_block, Wrong),
    "an edit that did nothing": (by_an_edit_that_did_nothing, IneffectiveEditError),
    "what is refused": (lambda model: record(model, [99]), ValueError),
    "a generation": (lambda model: generate(model, IDS[:2], 20), None),
    "a stream left half-way": (by_a_stream_left_half_way, None),
    "an intervene left half-way": (by_a_block_left_half_way, None),
    "a corpus left half-way": (by_traces_left_half_way, None),
    "a sweep": (
        lambda model: analysis.activation_patching(model, IDS, IDS[::-1], analysis.logit_difference(1, 2)), None,
    ),
    "a sweep with a failing metric": (lambda model: analysis.activation_patching(model, IDS, IDS[::-1], fail), Wrong),
    "head scores": (lambda model: analysis.head_scores(model, n_texts=2, n_null=2, n_bootstrap=2), None),
    "an untrained twin": (lambda model: analysis.untrained_like(model), None),
}  # fmt: skip


@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("way", WAYS_OUT)
def test_every_way_out_leaves_all_as_it_was(way, training):
    visit, error = WAYS_OUT[way]
    model = make_model(dropout=0.2).train(training)
    modes, before = [module.training for module in model.modules()], state()
    if error:
        with pytest.raises(error):
            visit(model)
    else:
        visit(model)
    gc.collect()  # what was left half-way is closed when it is collected, at the latest
    assert {name for name, value in state().items() if value != before[name]} == set()
    assert modes == [module.training for module in model.modules()]
    assert not any(point.heard for point in model.hook_points.values())
    assert all(parameter.grad is None and parameter.requires_grad for parameter in model.parameters())


# --- a thousand visits -----------------------------------------------------------------------------------------------

THOUSAND = """
import gc, os, random
import torch
from by_hand import IDS, make_model
from gptviz.interventions import ablate_head, intervene
from gptviz.trace import record

def resident_bytes():
    gc.collect()
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def visit():
    with intervene(model, ablate_head(0, 0)):
        record(model, IDS)

torch.set_num_threads(1)
model = make_model(n_layer=1)
for _ in range(500):  # allocators and caches fill
    visit()
objects, drawn = len(gc.get_objects()), random.getstate()
before = resident_bytes()  # last: the list of all objects is itself a megabyte
for _ in range(1000):
    visit()
grown = resident_bytes() - before
print(grown, len(gc.get_objects()) - objects, random.getstate() == drawn)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads a process's memory from /proc/self/statm")
def test_a_thousand_visits_keep_less_than_a_megabyte():
    """In a process of its own, where annotations are not checked: that takes a hundred times as long, and memory."""
    command = [sys.executable, "-c", THOUSAND]
    paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
    environment = os.environ | {"PYTHONPATH": paths}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stderr
    grown, more_objects, same_random_state = done.stdout.split()
    assert int(grown) < 1e6
    assert int(more_objects) < 100, "objects that stay"
    assert same_random_state == "True"
