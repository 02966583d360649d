"""One panel out of several tasks, so that pooled figures get their interval like any other. In: `Panel`s. Out: `Panel`s.

Knows nothing about arms, roles or verdicts, and computes no interval itself.

Legend: N items, S seeds, T tasks, n_t items of a task.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from rankscope.report.evidence import Panel, difference


def share(after: Panel, before: Panel | None, chance: float) -> Panel | None:
    """The chance-corrected ratio (after - chance) / (before - chance) as a panel whose mean is that ratio.

    With d = after - before by item and g = before - chance, the ratio is 1 + d / g. Each value is its linearisation in that
    item (delta method), (d_i - d) / g - d (b_i - b) / g^2 around the ratio, so that the interval of the panel's mean counts
    the uncertainty of the base too. None where the items don't overlap or the base is not above chance.
    """
    change = difference(after, before, against_base=True)
    if before is None or change is None:
        return None
    place = {item: i for i, item in enumerate(before.items)}
    start = before.values[0, [place[item] for item in change.items]]  # (N,)
    room, shift = float(start.mean()) - chance, float(change.values.mean())
    if room <= 0:
        return None
    values = 1 + shift / room + (change.values - shift) / room - shift * (start - start.mean()) / room**2
    return replace(change, values=values)


def pool(panels: dict[str, Panel]) -> Panel | None:
    """One panel whose mean is the unweighted mean of the tasks' means, over the seeds they share; items are (task,
    item).

    Each task is centred, weighted by N / (T n_t) and lifted to the common mean, so the item part of the variance is
    the one within tasks (tasks are strata, not a sample) and the seed part is that of the pooled seed means.
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
    return Panel(np.concatenate(values, axis=1), items, shared, clusters, next(iter(panels.values())).metric)
