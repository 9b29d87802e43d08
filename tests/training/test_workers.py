"""The workers of a run add up, agree, and end together; here they are threads."""

import pytest
import torch
from torch import Tensor
from torch.distributed import HashStore  # type: ignore[attr-defined]

from runtime.errors import ConfigError, DataError, TrainingError, WorkerLost
from support.worker_threads import in_threads, raised, run_workers, two_stages
from training import lost_workers
from training.ordered_sum import Nodes, OrderedSum, add_in_place, add_node, nodes_within, share
from training.rendezvous import join
from training.workers import Workers

LENGTH = 37  # no multiple of any number of workers


def vector_of(part: int, length: int) -> Tensor:
    """Return a vector whose sum over parts depends on the order: large numbers that cancel, and small ones."""
    draw = torch.Generator().manual_seed(part)
    scale = torch.tensor([1e8, 1.0, -1e8, 1e-3]).roll(part).repeat(-(-LENGTH // 4))[:LENGTH]
    return torch.cat([torch.randn(LENGTH, generator=draw) * scale, torch.zeros(length - LENGTH)])


def nodes_of(own: range, parts: int, length: int) -> Nodes:
    nodes: Nodes = {}
    for part in own:
        add_node(nodes, (0, part), vector_of(part, length), parts, add_in_place)
    assert set(nodes) == set(nodes_within(own, parts))
    return nodes


def sums(worker: Workers) -> list[bytes]:
    found = []
    for parts in range(1, 10):
        length = worker.padded(LENGTH)
        nodes = nodes_of(worker.parts(parts), parts, length)
        worker.reserve(length, parts, torch.empty(0))
        found.append(worker.sum(nodes, parts, length, torch.empty(0))[:LENGTH].numpy().tobytes())
    return found


@pytest.fixture(scope="module")
def sums_of_one() -> list[bytes]:
    (found,) = run_workers(1, sums)
    return found


@pytest.mark.parametrize("size", range(2, 9))
def test_a_sum_has_the_same_bits_on_any_number_of_workers(size: int, sums_of_one: list[bytes]) -> None:
    for found in run_workers(size, sums):
        assert found == sums_of_one


@pytest.mark.parametrize(("hosts", "local_size"), [(2, 2), (2, 3), (3, 2)])
def test_a_sum_in_two_stages_has_the_same_bits(hosts: int, local_size: int, sums_of_one: list[bytes]) -> None:
    store, size = HashStore(), hosts * local_size

    def work(rank: int) -> list[bytes]:
        add = OrderedSum(size, two_stages(store, rank, hosts, local_size))
        length = add.padded(LENGTH)
        found = []
        for parts in range(1, 10):
            nodes = nodes_of(share(parts, size, rank), parts, length)
            found.append(add(nodes, parts, length, torch.empty(0))[:LENGTH].numpy().tobytes())
        return found

    for found in in_threads(size, work):
        assert found == sums_of_one


def test_the_sum_is_right_and_the_order_matters(sums_of_one: list[bytes]) -> None:
    vectors = [vector_of(part, LENGTH) for part in range(4)]
    pairs = (vectors[0] + vectors[1]) + (vectors[2] + vectors[3])
    assert sums_of_one[3] == pairs.numpy().tobytes()
    assert sums_of_one[3] != (((vectors[0] + vectors[1]) + vectors[2]) + vectors[3]).numpy().tobytes()


def test_shares_are_contiguous_and_as_even_as_tensor_split() -> None:
    for parts in range(1, 12):
        for size in range(1, 9):
            expected = [piece.tolist() for piece in torch.arange(parts).tensor_split(size)]
            assert [list(share(parts, size, rank)) for rank in range(size)] == expected


def test_workers_agree_on_stop_save_and_parts() -> None:
    def work(worker: Workers) -> tuple[int, bool, bool]:
        worker.control.wants_stop = lambda: worker.rank == 1
        return worker.agree(4 * (1 + worker.rank)), worker.control.stop, worker.control.save

    assert run_workers(3, work) == [(12, True, False)] * 3
    assert run_workers(1, work) == [(4, False, False)]


def test_bytes_values_and_tensors_reach_everybody() -> None:
    def work(worker: Workers) -> tuple[bytes, object, list[object], list[list[int]]]:
        own = torch.full((worker.rank, 2), float(worker.rank))
        gathered = worker.gather_rows([own] if len(own) else [], [0, 1, 2])
        sent = worker.broadcast(b"state" if worker.is_first else b"")
        told = worker.tell({"parts": 4} if worker.is_first else None)
        return sent, told, worker.exchange(worker.rank), [part.flatten().tolist() for part in gathered]

    assert run_workers(3, work) == [(b"state", {"parts": 4}, [0, 1, 2], [[], [1, 1], [2, 2, 2, 2]])] * 3


def test_what_differs_between_workers_is_named_on_all() -> None:
    def work(worker: Workers) -> str:
        versions = {"torch": "2.10", "processor": "H200" if worker.rank < 2 else "A100"}
        return raised(lambda: worker.require_same(versions, "use one type of instance"), ConfigError)

    expected = "ConfigError: processor is 'H200' on worker 0 of algo-1 and 'A100' on worker 2 of algo-2; use one type "
    assert run_workers(4, work, local_size=2) == [f"{expected}of instance"] * 4


def test_weights_that_differ_by_one_bit_are_noticed_by_all() -> None:
    def work(worker: Workers) -> str:
        worker.require_same_weights(7)
        return raised(lambda: worker.require_same_weights(7 + (worker.rank == 1)), TrainingError)

    (message,) = set(run_workers(3, work))
    assert "the weights of worker 1 are not those of worker 0" in message


def test_all_end_with_the_sentence_of_the_worker_that_failed() -> None:
    def work(worker: Workers) -> str:
        if worker.rank == 1:
            return raised(lambda: fail(worker, DataError("no images: data")), DataError)
        return raised(lambda: until_it_fails(worker), Exception)

    assert run_workers(3, work) == ["DataError: no images: data"] * 3


def fail(worker: Workers, error: BaseException) -> None:
    worker.lost.publish(error)
    hang_up(worker)
    raise error


def hang_up(worker: Workers) -> None:
    """Close the connections of a worker, as the end of its process does."""
    worker._group, worker._sum = None, OrderedSum(1, [])


def until_it_fails(worker: Workers) -> None:
    while True:
        worker.agree(1)


def test_the_first_of_two_errors_counts() -> None:
    def work(worker: Workers) -> str:
        if worker.rank:
            worker.tell()
        found = worker.lost.publish(DataError(f"image {worker.rank}"))
        if not worker.rank:
            worker.tell(0)
        return str(found)

    assert run_workers(2, work) == ["image 0"] * 2


def test_a_worker_that_vanishes_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lost_workers, "ROLL_CALL_SECONDS", 0.5)

    def work(worker: Workers) -> str:
        if worker.rank == 2:
            hang_up(worker)
            return ""
        return raised(lambda: until_it_fails(worker), WorkerLost)

    sentence = "worker 2 of algo-3 was lost, so training cannot continue; its log says why, and a restart resumes"
    assert run_workers(3, work, local_size=1) == [f"WorkerLost: {sentence}"] * 2 + [""]


def test_a_killed_worker_of_the_same_host_is_noticed_while_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    def work(worker: Workers) -> str:
        worker.lost.check()
        worker.exchange(None)
        monkeypatch.setattr(lost_workers, "start_time", lambda pid: "another process")
        worker.lost._next_check = 0.0
        return raised(worker.lost.check, WorkerLost)

    assert "worker 0 and worker 1 were lost" in run_workers(2, work)[0]


def test_a_worker_that_is_alone_needs_nobody() -> None:
    worker = Workers()
    assert (worker.parts(3), worker.broadcast(b"x"), worker.tell(1), worker.exchange(2)) == (range(3), b"x", 1, [2])
    worker.require_same({"torch": 1}, "")
    worker.require_same_weights(1)
    worker.leave()


@pytest.mark.parametrize(
    "variables", [{"WORLD_SIZE": "two"}, {"WORLD_SIZE": "2"}, {"WORLD_SIZE": "2", "RANK": "first"}, {"WORLD_SIZE": "0"}]
)
def test_variables_of_torchrun_that_are_missing_or_no_numbers_are_rejected(variables: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match="a variable of torchrun is wrong"), join(variables):
        pass
