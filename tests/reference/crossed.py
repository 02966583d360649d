"""Plain twins of the variance of a mean: loops over cells and explicit matrices instead of sums of squares."""

from __future__ import annotations

import numpy as np


def two_way(values) -> tuple[float, float, float]:
    """Variance of the mean over items, of one seed's mean, and of what of it neither explains; from a table (S, N)."""
    seeds, items = len(values), len(values[0])
    grand = sum(sum(row) for row in values) / (seeds * items)
    of_seed = [sum(row) / items for row in values]
    of_item = [sum(values[s][i] for s in range(seeds)) / seeds for i in range(items)]
    item = sum((m - grand) ** 2 for m in of_item) / (items - 1) / items
    seed = sum((m - grand) ** 2 for m in of_seed) / (seeds - 1)
    cells = [values[s][i] - of_seed[s] - of_item[i] + grand for s in range(seeds) for i in range(items)]
    return item, seed, sum(c**2 for c in cells) / ((seeds - 1) * (items - 1)) / items


def clustered_sum(values, clusters) -> tuple[float, float]:
    """Bell and McCaffrey's variance of the sum of ``values`` and its degrees of freedom, from their matrices.

    The regression on a constant: H = 1/N, residuals of cluster c times (I - H_cc)^(-1/2); degrees of freedom from the
    quadratic form's eigenvalues under independent errors.
    """
    count, names = len(values), sorted(set(clusters))
    maker = np.eye(count) - np.full((count, count), 1 / count)
    residual, variance, columns = maker @ np.asarray(values), 0.0, []
    for name in names:
        places = [i for i, c in enumerate(clusters) if c == name]
        values_, vectors = np.linalg.eigh(maker[np.ix_(places, places)])
        adjust = vectors @ np.diag(values_**-0.5) @ vectors.T
        variance += float((adjust @ residual[places]).sum() ** 2)
        columns.append(maker[:, places] @ adjust @ np.ones(len(places)))
    inner = np.array(columns) @ np.array(columns).T
    eigenvalues = np.linalg.eigvalsh(inner)
    return variance, float(eigenvalues.sum() ** 2 / (eigenvalues**2).sum())
