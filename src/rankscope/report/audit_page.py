"""The page of an audit: advice, drawings, tables. In: ``Found``. Out: HTML, in the report's own frame."""

from __future__ import annotations

from rankscope.provenance import public_name
from rankscope.report import audit_advice
from rankscope.report.audit_charts import charts
from rankscope.report.audit_rows import Found, Module, by_kind
from rankscope.report.cells import Cell, Part, Section, Table, columns
from rankscope.report.html import Frame, written
from rankscope.report.rows import Verdict
from rankscope.report.wording import NOTHING, plural

STABLE = "sum of s_i^2 by s_1^2, over the singular values s of dW (the scale included)"
EFFECTIVE = "exp of the entropy of s_i by sum of s (Roy & Vetterli 2007)"
ENERGY = "least k whose largest singular values hold this share of ||dW||_F^2"
USED = "stable rank by the rank r that was spent"
NORM = "root of the sum of s_i^2, the size of dW"
CHANGE = "||dW||_F by ||W||_F of the base's weight"
CHANGE_2 = "||dW||_2 by ||W||_2: the largest singular values"
INTRUDERS = (
    "leading left singular vectors of W + dW (10 by default) whose largest absolute cosine with all of W's is below "
    "0.5 (2410.21228); small print: near ties, cosines within 0.001 of it"
)
INTERFERENCE = "share of ||dW||_F^2 inside the leading singular subspaces of W (after OPLoRA, 2510.13003)"


def page(found: Found) -> str:
    """The finished page: one file that loads nothing."""
    title = f"Audit of {found.adapter}"
    verdict = Verdict("", "", audit_advice.lead(found), tuple(audit_advice.advice(found)))
    drawn = charts(found)
    spectra = tuple(s for s in (_spectra(found),) if any(chart.section == s.id for chart in drawn))
    parts = (
        Part("verdict", "Advice", "", ()),
        Part("update", "The update", "", (_ranks(found), *spectra), "Update"),
        Part("parts", "Module by module", "", (_modules(found), _left_out(found)), "Modules"),
    )
    return written(Frame(title, _facts(found), (verdict,), parts, drawn))


def _facts(found: Found) -> tuple[tuple[str, str], ...]:
    about = audit_advice.summary(found)
    rank = about["rank"]
    what = "fully fine-tuned"
    if rank:
        what = f"LoRA, rank {rank['min']}" + (f" to {rank['max']}" if rank["max"] > rank["min"] else "")
    facts = [what, f"{plural(about['num_modules'], 'module')} in {plural(about['num_layers'], 'layer')}"]
    facts.append(f"{about['parameters']:,} parameters")
    facts += [f"made for {public_name(found.made_for)}"] if found.made_for else []
    facts.append(f"measured against {public_name(found.base)}" if found.base else "measured without a base")
    return tuple((text, "") for text in facts)


def _ranks(found: Found) -> Section:
    """By kind of module: means over its modules."""
    heads = ["Kind", ("Modules", "how many linear modules of this kind the update changes")]
    heads += [("Stable rank", f"Mean, and least to largest, over modules: {STABLE}"),
              ("Effective rank", f"Mean, and least to largest, over modules: {EFFECTIVE}"),
              ("k@90 %", f"Mean, and least to largest, over modules: {ENERGY}"),
              ("k@99 %", f"Mean, and least to largest, over modules: {ENERGY}"),
              ("||dW||_F", f"Mean, and least to largest, over modules: {NORM}")]  # fmt: skip
    if found.base is not None:
        heads += [("Relative change", f"Mean, and least to largest, over modules: {CHANGE}"),
                  ("Intruders", f"Sum over modules: {INTRUDERS}")]  # fmt: skip
    rows = [(Cell(kind), *_kind_cells(found, modules)) for kind, modules in by_kind(found.modules).items()]
    table = Table("kinds", "By kind of module", columns(*heads), tuple(rows), tuple(range(1, len(heads))))
    intro = ("Ranks of the update dW, layer by layer. Exploratory: no spectral estimate is known to predict the rank "
             "that a task needs.")  # fmt: skip
    return Section("ranks", "Ranks by layer and kind", intro, (table,), "Ranks")


def _kind_cells(found: Found, modules: list[Module]) -> list[Cell]:
    names = ("stable_rank", "effective_rank", "energy_rank_90", "energy_rank_99", "frobenius")
    cells = [Cell(str(len(modules))), *(_spread(getattr(m, name) for m in modules) for name in names)]
    if found.base is not None:
        cells.append(_spread(m.base.relative_frobenius for m in modules))
        cells.append(_number(audit_advice.total(m.base.intruders for m in modules)))
    return cells


def _spectra(found: Found) -> Section:
    intro = "Singular values of dW by the largest one, a drawing for each kind of module, a line for each layer."
    return Section("spectra", "Spectra", intro, (), "Spectra")


def _modules(found: Found) -> Section:
    heads = ["Module", ("Layer", "the first number in the name")]
    if found.kind == "lora":
        heads += [("Rank", "the rank r that was spent"), ("Scale", "alpha / r, or alpha / sqrt(r) for rsLoRA")]
    heads += [("Stable rank", STABLE), ("Effective rank", EFFECTIVE), ("k@90 %", ENERGY), ("k@99 %", ENERGY)]
    heads += [("Used", USED)] if found.kind == "lora" else []
    heads += [("||dW||_F", NORM), ("||dW||_2", "the largest singular value of dW")]
    if found.base is not None:
        heads += [("Relative ||.||_F", CHANGE), ("Relative ||.||_2", CHANGE_2), ("Intruders", INTRUDERS),
                  ("Interference", INTERFERENCE)]  # fmt: skip
    rows = tuple(tuple(_module_cells(found, m)) for m in found.modules)
    table = Table("audited", "Every module", columns(*heads), rows, tuple(range(1, len(heads))))
    return Section("modules", "Modules", "What was read of each module.", (table,), "Modules")


def _module_cells(found: Found, m: Module) -> list[Cell]:
    cells = [Cell(m.place.name), _number(m.place.layer)]
    cells += [_number(m.place.rank), _number(m.place.scale)] if found.kind == "lora" else []
    cells += [_number(v) for v in (m.stable_rank, m.effective_rank, m.energy_rank_90, m.energy_rank_99)]
    if found.kind == "lora":
        cells.append(Cell(NOTHING if m.utilisation is None else audit_advice.per_cent(m.utilisation)))
    cells += [_number(m.frobenius), _number(m.spectral)]
    if m.base is not None:
        ties = plural(m.base.near_ties, "near tie") if m.base.near_ties else ""
        cells += [_number(m.base.relative_frobenius), _number(m.base.relative_spectral)]
        cells += [Cell(_number(m.base.intruders).text, ties), _number(m.base.interference)]
    return cells


def _left_out(found: Found) -> Section:
    rows = [(Cell(text),) for text in found.left_out]
    tables = [Table("left", "Left out", columns("What, and why"), tuple(rows))]
    if found.whole and any(w.relative_frobenius is not None for w in found.whole):
        whole = tuple((Cell(w.name), _number(w.relative_frobenius)) for w in found.whole)
        heads = columns("Parameter", ("Relative change", "norm of the difference by the norm of the base's values"))
        tables.insert(0, Table("whole", "Parameters that are no linear module", heads, whole, (1,)))
    return Section("left-out", "Beside the modules", "", tuple(tables), "Left out")


def _spread(values) -> Cell:
    found = audit_advice.spread(values)
    if found is None:
        return Cell(NOTHING)
    same = f"{found['min']:.3g}" == f"{found['max']:.3g}"
    return Cell(f"{found['mean']:.3g}", "" if same else f"{found['min']:.3g} to {found['max']:.3g}")


def _number(value: float | int | None) -> Cell:
    return Cell(NOTHING if value is None else f"{value:.3g}" if isinstance(value, float) else str(value))
