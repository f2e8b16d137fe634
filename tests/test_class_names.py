from __future__ import annotations

import pytest

from mmboxvis.class_names import class_key
from mmboxvis.datasets.categories import match_categories as match_labels
from mmboxvis.evaluation import match_categories as match_ids

SPELLINGS = [
    ('giant_panda', 'Giant Panda'),
    ('giant panda', ' giant-panda\n'),
    ('giant  panda', 'giant_panda'),
    ('Vehical', 'vehicle'),
]


@pytest.mark.parametrize(('one', 'other'), SPELLINGS)
def test_spellings_of_one_class(one: str, other: str) -> None:
    assert class_key(one) == class_key(other)


@pytest.mark.parametrize(('one', 'other'), [('cat', 'cats'), ('giant panda', 'giantpanda')])
def test_classes_that_differ(one: str, other: str) -> None:
    assert class_key(one) != class_key(other)


@pytest.mark.parametrize(('one', 'other'), SPELLINGS)
def test_what_can_be_trained_on_can_be_scored(one: str, other: str) -> None:
    """The data set and the writer of results find the same class in a file."""
    labels = match_labels({7: other}, (one,), category_map={}, unknown='error', where='f')
    assert labels == {7: 0}
    assert match_ids((one,), {7: other}) == [7]
