"""Names of classes, which data sets and people do not write alike."""

from __future__ import annotations

import re

# as OVIS writes it
_SPELLINGS = {'vehical': 'vehicle'}


def class_key(name: str) -> str:
    """What two names of one class have in common.

    Names are told apart neither by case nor by space, hyphen or underscore, and not by the
    misspelling of OVIS.
    """
    plain = re.sub(r'[\s_-]+', '_', name.strip()).casefold()
    return _SPELLINGS.get(plain, plain)
