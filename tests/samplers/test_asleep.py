"""What sleeping networks answer: as many rows as they are asked for, whatever their outputs look like."""

from types import SimpleNamespace

import pytest
import torch

from noisewright.samplers.asleep import rows_of, sleeping


class RowByRow(torch.nn.Module):
    """A network that takes and gives a list of a tensor a row, as Z-Image's does."""

    def forward(self, rows, time):
        return ([2 * row for row in rows], {})


class Residuals(torch.nn.Module):
    """A network that gives several things of each row, as ControlNets do."""

    def forward(self, x, time):
        return [x + 1, x[:, :2]], x + 2


def asleep_after(network, first, then):
    """What a network answers in its sleep to ``then``, having been asked for ``first`` before."""
    pipe = SimpleNamespace(transformer=network)
    with sleeping(pipe, lambda: True, {}):
        network(first, torch.ones(1))
        return network(then, torch.ones(1))


@pytest.mark.parametrize("before", [1, 2, 4, 8])
@pytest.mark.parametrize("rows", [1, 2, 4])
def test_a_list_of_a_tensor_a_row_grows_also_where_rows_and_channels_are_as_many(before, rows):
    found, _ = asleep_after(RowByRow(), list(torch.ones(before, 4, 3)), list(torch.ones(rows, 4, 3)))
    assert [one.shape for one in found] == [(4, 3)] * rows
    assert not any(one.any() for one in found)


@pytest.mark.parametrize("rows", [1, 2, 3])
def test_a_list_of_several_things_keeps_its_length_also_where_rows_are_as_many(rows):
    listed, last = asleep_after(Residuals(), torch.ones(2, 4), torch.ones(rows, 4))
    assert [one.shape for one in (*listed, last)] == [(rows, 4), (rows, 2), (rows, 4)]


def test_rows_are_counted_of_tensors_and_of_lists():
    assert rows_of((torch.ones(3, 4), torch.ones(2, 4)), {}) == 3
    assert rows_of(([torch.ones(4), torch.ones(4)],), {}) == 2
    assert rows_of((torch.ones(1),), {"hidden_states": torch.ones(5, 4)}) == 5
    assert rows_of((), {}) == 0
