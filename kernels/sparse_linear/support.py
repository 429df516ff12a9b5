"""Where a matrix is not zero: the format that `sparse_linear` reads, in row order and in column order."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int32
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Support:
    """The entries of a matrix (n_out, n_in) that may differ from zero, numbered row by row; build it with `Support.of`."""

    shape: tuple[int, int]
    """(n_out, n_in)."""
    row_pointers: Int32[Tensor, " n_out_plus_one"]
    """Row i holds the entries row_pointers[i] to row_pointers[i + 1] - 1."""
    rows: Int32[Tensor, " n_nonzero"]
    """The row of each entry, ascending."""
    columns: Int32[Tensor, " n_nonzero"]
    """The column of each entry, ascending within a row."""
    column_pointers: Int32[Tensor, " n_in_plus_one"]
    """Column j holds places column_pointers[j] to column_pointers[j + 1] - 1 of the two tensors below."""
    by_column: Int32[Tensor, " n_nonzero"]
    """The entries' numbers in column order: what takes values from row order to column order."""
    rows_by_column: Int32[Tensor, " n_nonzero"]
    """The row of each entry in column order, ascending within a column."""

    @classmethod
    def of(cls, matrix: Tensor) -> Support:
        """Return the support of a matrix: its nonzeros, or what a boolean mask (n_out, n_in) marks.

        Raises:
            ValueError: it is no matrix, or has more nonzeros than int32 counts.
        """
        if matrix.ndim != 2:
            raise ValueError(f"A support is that of a matrix (n_out, n_in), got shape {list(matrix.shape)}: give two axes.")
        rows, columns = matrix.detach().nonzero(as_tuple=True)
        if len(rows) > torch.iinfo(torch.int32).max:
            raise ValueError(f"A support counts its entries in int32, and {len(rows):,} are too many: use the dense product.")
        n_out, n_in = matrix.shape
        by_column = columns.argsort(stable=True)
        parts = (_pointers(rows, n_out), rows, columns, _pointers(columns, n_in), by_column, rows[by_column])
        return cls((n_out, n_in), *(part.to(torch.int32) for part in parts))

    @property
    def n_nonzero(self) -> int:
        return len(self.columns)

    @property
    def density(self) -> float:
        """Nonzeros over entries; 0 for a matrix without entries."""
        return self.n_nonzero / max(1, self.shape[0] * self.shape[1])

    @property
    def buffers(self) -> list[Tensor]:
        """The tensors, in the order in which the constructor takes them."""
        return [self.row_pointers, self.rows, self.columns, self.column_pointers, self.by_column, self.rows_by_column]

    def values(self, dense: Float[Tensor, "n_out n_in"]) -> Float[Tensor, " n_nonzero"]:
        """Gather a dense matrix at the support.

        Raises:
            ValueError: the matrix is of another shape.
        """
        if tuple(dense.shape) != self.shape:
            raise ValueError(f"The support is of a matrix {list(self.shape)}, got {list(dense.shape)}: give one of that shape.")
        return dense.flatten().gather(0, self._places())

    def dense(self, values: Float[Tensor, " n_nonzero"]) -> Float[Tensor, "n_out n_in"]:
        """Scatter values into a matrix that is zero elsewhere.

        Raises:
            ValueError: there are more or fewer values than entries in the support.
        """
        if len(values) != self.n_nonzero:
            raise ValueError(f"The support has {self.n_nonzero:,} entries, got {len(values):,} values: give one for each.")
        n_out, n_in = self.shape
        return values.new_zeros(n_out * n_in).scatter(0, self._places(), values).view(n_out, n_in)

    def _places(self) -> Tensor:
        """Return where the entries lie in the flattened matrix, which may be longer than int32 counts."""
        return self.rows.long() * self.shape[1] + self.columns


def _pointers(sorted_by: Tensor, n_lines: int) -> Tensor:
    counts = torch.bincount(sorted_by, minlength=n_lines)
    return torch.cat([counts.new_zeros(1), counts.cumsum(0)])
