from __future__ import annotations

import torch

from mmboxvis.structures import AffinityPairs
from mmboxvis.structures.affinity_pairs import PointSamples

OFFSETS = ((0, 1, 0), (0, 0, 1))


def make_pairs(node_pairs, neighbors, shape=(3, 1, 2, 2)) -> AffinityPairs:
    """Pairs given by node numbers, on logits of the size of the grid."""
    numbers = torch.tensor(node_pairs, dtype=torch.long).view(-1, 2)
    nodes, slots = numbers.unique(return_inverse=True)
    slots = slots.view(-1, 2)
    weights = torch.tensor([1.0, 0.0, 0.0, 0.0])[:, None].expand(4, len(nodes))
    return AffinityPairs(
        nodes=nodes,
        first=slots[:, 0],
        second=slots[:, 1],
        neighbor_inds=torch.tensor(neighbors, dtype=torch.uint8),
        degrees=torch.bincount(slots.flatten(), minlength=len(nodes)).float(),
        samples=PointSamples(shape[2:], nodes, weights),
        offsets=OFFSETS,
        shape=shape,
        working_size=shape[2:],
        stride=1,
    )


def as_set(pairs: AffinityPairs) -> set[tuple[int, int, int]]:
    ends = (pairs.nodes[pairs.first], pairs.nodes[pairs.second], pairs.neighbor_inds)
    return set(zip(*(part.tolist() for part in ends)))


def test_no_pair():
    pairs = make_pairs([], [])
    assert pairs.num_pairs == 0 and pairs.num_instances == 3
    assert torch.equal(pairs.counts(), torch.zeros(2, 3).long())
    assert pairs.select(torch.tensor([1])).shape == (1, 1, 2, 2)


def test_no_instance():
    pairs = make_pairs([], [], shape=(0, 1, 2, 2))
    assert pairs.counts().shape == (2, 0)
    assert pairs.select(torch.tensor([], dtype=torch.long)).num_pairs == 0


# instance 0 owns the nodes 0..3, instance 1 4..7, instance 2 8..11
EXAMPLE = ([(0, 1), (0, 2), (8, 9), (9, 11), (2, 3)], [0, 1, 0, 1, 0])


def test_counts_by_neighbor_and_instance():
    pairs = make_pairs(*EXAMPLE)
    assert pairs.instances().tolist() == [0, 0, 2, 2, 0]
    assert pairs.counts().tolist() == [[2, 0, 1], [1, 0, 1]]


def test_select_renumbers_in_the_given_order():
    pairs = make_pairs(*EXAMPLE)
    swapped = pairs.select(torch.tensor([2, 0]))
    assert swapped.shape == (2, 1, 2, 2)
    assert as_set(swapped) == {(0, 1, 0), (1, 3, 1), (4, 5, 0), (4, 6, 1), (6, 7, 0)}
    assert torch.equal(swapped.counts(), pairs.counts()[:, [2, 0]])
    assert torch.equal(swapped.nodes, swapped.nodes.sort()[0])
    # on logits of the size of the grid, every node is read where it is
    assert torch.equal(swapped.samples.corners, swapped.nodes)
    assert swapped.degrees.sum() == 2 * swapped.num_pairs
    assert as_set(pairs) == {(0, 1, 0), (0, 2, 1), (8, 9, 0), (9, 11, 1), (2, 3, 0)}


def test_select_of_all_none_and_one_without_pairs():
    pairs = make_pairs(*EXAMPLE)
    assert as_set(pairs.select(torch.arange(3))) == as_set(pairs)
    assert pairs.select(torch.tensor([], dtype=torch.long)).num_pairs == 0
    alone = pairs.select(torch.tensor([1]))
    assert alone.num_pairs == 0 and len(alone.nodes) == 0
