"""One panel out of several tasks, so that pooled figures get their interval like any other. In: `Panel`s. Out:
`Panel`s.

Knows nothing about arms, roles or verdicts, and computes no interval itself.

Legend: N items, S seeds, T tasks, n_t items of a task.
"""

from __future__ import annotations

import numpy as np

from rankscope.report.evidence import Panel
from rankscope.stats.estimate import flips, pooled_flips


def pool(panels: dict[str, Panel]) -> Panel | None:
    """One panel whose mean is the unweighted mean of the tasks' means, over the seeds they share; items are (task,
    item).

    Each task is centred, weighted by N / (T n_t) and lifted to the common mean. Tasks are strata, no sample: the item
    part of the variance is the one within them, each with its own degrees of freedom, and the seed part is that of the
    pooled seed means.
    """
    if not panels:
        return None
    shared = tuple(s for s in next(iter(panels.values())).seeds if all(s in p.seeds for p in panels.values()))
    if not shared:
        return None
    parts = [p.values[[p.seeds.index(s) for s in shared]] for p in panels.values()]  # each (S, n_t)
    middle = float(np.mean([part.mean() for part in parts]))
    total = sum(part.shape[1] for part in parts)
    values = [(part - part.mean()) * total / (len(parts) * part.shape[1]) + middle for part in parts]
    items = tuple(f"{task}/{item}" for task, p in panels.items() for item in p.items)
    clusters = None
    if any(p.clusters is not None for p in panels.values()):
        labels = [f"{t}/{c}" for t, p in panels.items() for c in (p.items if p.clusters is None else p.clusters)]
        clusters = np.array(labels)
    strata = np.repeat(list(panels), [part.shape[1] for part in parts])
    changed, metric = None, next(iter(panels.values())).metric
    if all(p.changed for p in panels.values()):
        changed = pooled_flips([flips(part, p.clusters) for part, p in zip(parts, panels.values(), strict=True)])
    tasks = tuple((part, p.clusters) for part, p in zip(parts, panels.values(), strict=True))
    return Panel(np.concatenate(values, axis=1), items, shared, clusters, metric, False, changed, strata, tasks)
