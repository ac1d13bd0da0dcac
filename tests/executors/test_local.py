import pytest
import torch

from noisewright.executors.local import LocalExecutor


def collect(executor, count, most=None, allowed=lambda count: count):
    """Work that runs out of memory above ``most``; returns the batches that came through."""

    def work(batch):
        if most is not None and len(batch) > most:
            raise torch.OutOfMemoryError("no memory left")
        return [item * 10 for item in batch]

    return list(executor.run(list(range(count)), work, allowed))


def flat(batches):
    return [item for batch, _ in batches for item in batch]


def test_packs_in_order_and_pairs_outputs():
    batches = collect(LocalExecutor(4), 10)
    assert [len(batch) for batch, _ in batches] == [4, 4, 2]
    assert flat(batches) == list(range(10))
    assert all(output == [item * 10 for item in batch] for batch, output in batches)


def test_out_of_memory_halves_goes_on_and_is_remembered():
    sizes = []
    executor = LocalExecutor(16, sizes.append)
    batches = collect(executor, 20, most=3)
    assert sizes == [8, 4, 2]
    assert [len(batch) for batch, _ in batches] == [2] * 10
    assert flat(batches) == list(range(20))
    assert executor.batch_size == 2
    assert [len(batch) for batch, _ in collect(executor, 3, most=3)] == [2, 1]
    assert sizes == [8, 4, 2]


def test_halves_what_failed_not_what_was_wished():
    executor = LocalExecutor(16)
    assert flat(collect(executor, 5, most=2)) == list(range(5))
    assert executor.batch_size == 2


@pytest.mark.parametrize(
    "error", [torch.OutOfMemoryError("x"), MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory")]
)
def test_every_kind_of_out_of_memory_is_known(error):
    executor = LocalExecutor(4)
    calls = []

    def work(batch):
        calls.append(len(batch))
        if len(batch) > 1:
            raise error
        return batch

    assert flat(executor.run([1, 2, 3], work, lambda count: count)) == [1, 2, 3]
    assert calls == [3, 1, 1, 1]


def test_a_single_item_out_of_memory_is_raised():
    with pytest.raises(torch.OutOfMemoryError):
        collect(LocalExecutor(4), 5, most=0)


def test_other_errors_are_raised_at_once():
    calls = []

    def work(batch):
        calls.append(batch)
        raise RuntimeError("another error")

    with pytest.raises(RuntimeError, match="another error"):
        list(LocalExecutor(4).run([1, 2, 3], work, lambda count: count))
    assert len(calls) == 1


def test_what_the_budget_allows_is_kept_to():
    left = [5]

    def allowed(count):
        granted = min(count, left[0])
        left[0] -= granted
        return granted

    batches = collect(LocalExecutor(3), 10, allowed=allowed)
    assert [len(batch) for batch, _ in batches] == [3, 2]
    assert flat(batches) == list(range(5))


def test_a_batch_is_handed_over_before_the_next_one_starts():
    seen = []

    def work(batch):
        seen.append(f"work {batch[0]}")
        return batch

    for batch, _ in LocalExecutor(1).run([0, 1], work, lambda count: count):
        seen.append(f"got {batch[0]}")
    assert seen == ["work 0", "got 0", "work 1", "got 1"]


def test_nothing_to_do():
    assert collect(LocalExecutor(3), 0) == []


def test_a_batch_size_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0"):
        LocalExecutor(0)
