"""Pickles of strangers, read without running their code."""

from __future__ import annotations

import pickle
from collections.abc import Mapping
from typing import IO, Any

import numpy as np
from mmengine.logging import HistoryBuffer

# all that a pickle of numpy arrays in plain containers needs
_ADMITTED = {
    ('collections', 'OrderedDict'),
    ('builtins', 'set'),
    ('__builtin__', 'set'),
    ('numpy', 'ndarray'),
    ('numpy', 'dtype'),
    ('numpy.core.multiarray', '_reconstruct'),
    ('numpy.core.multiarray', 'scalar'),
    ('numpy._core.multiarray', '_reconstruct'),
    ('numpy._core.multiarray', 'scalar'),
    ('numpy._core.numeric', '_frombuffer'),
    ('numpy.core.numeric', '_frombuffer'),
    ('_codecs', 'encode'),
}


def _log_attribute(owner: Any, name: str) -> Any:
    """Stands for ``getattr``, by which pickled log curves name their own methods."""
    if owner is not HistoryBuffer:
        raise pickle.UnpicklingError(f'refused to load the attribute {name} of {owner}')
    return getattr(owner, name)


ADMITTED_BY_TORCH: tuple[Any, ...] = (
    HistoryBuffer,
    (_log_attribute, 'builtins.getattr'),
    np.ndarray,
    np.dtype,
    np.zeros(1).__reduce__()[0],
    np.float64().__reduce__()[0],
    *(type(np.dtype(kind)) for kind in ('bool', 'int32', 'int64', 'float32', 'float64')),
)
"""What mmengine adds to the tensors of a training run, for ``torch.serialization.safe_globals``:
scalars, and the curves of its log."""


class PlainUnpickler(pickle.Unpickler):
    """Reads numpy arrays and plain containers, and refuses to call anything else.

    Args:
        file: opened for reading bytes.
        stand_ins: what takes the place of other names, by module and name.
        encoding: of the text in pickles of Python 2.
    """

    def __init__(
        self,
        file: IO[bytes],
        *,
        stand_ins: Mapping[tuple[str, str], Any] | None = None,
        encoding: str = 'latin1',
    ) -> None:
        super().__init__(file, encoding=encoding)
        self._stand_ins = dict(stand_ins or {})

    def find_class(self, module: str, name: str) -> Any:
        """What a pickle may call.

        Raises:
            pickle.UnpicklingError: if it asks for anything else, naming it.
        """
        if (module, name) in self._stand_ins:
            return self._stand_ins[module, name]
        if (module, name) not in _ADMITTED:
            raise pickle.UnpicklingError(
                f'refused to load {module}.{name}: only numpy arrays and plain containers are read '
                'from a pickle'
            )
        return super().find_class(module, name)
