"""How to cite a report: BibTeX for rankscope, for this study and for the sources of the methods it uses. In: a `View`.
Out: text.

The entries of papers were written by hand from what is printed on them; none has an identifier beyond arXiv's.
"""

from __future__ import annotations

import re
import sys

from rankscope.report.export import latex
from rankscope.report.view import View

Fields = dict[str, str]
VERSION: str = sys.modules["rankscope"].__version__  # the package stands above all layers: no module imports from it
_HOMES = ("Model ", "Adapter ", "Checkpoint ")


def to_bibtex(view: View) -> str:
    """One @software entry for rankscope, one @misc for this study, then the sources that its glossary names."""
    entries = [_entry("software", "rankscope", _software()), _entry("misc", _key(view), _study(view))]
    entries += [_entry(kind, key, fields) for _, kind, key, fields in used(view)]
    return "\n\n".join(entries) + "\n"


def used(view: View) -> list[tuple[str, str, str, Fields]]:
    """The sources that this report's methods name; that of rsLoRA only where an arm is scaled so."""
    said = " ".join(m.source for m in view.methods)
    said += " 2312.03732" if any(a.scaling == "rslora" for a in view.arms) else ""
    return [source for source in SOURCES if source[0] in said]


def _software() -> Fields:
    return {"title": "rankscope: how much LoRA rank is too much?", "version": VERSION, "note": "Python package"}


def _study(view: View) -> Fields:
    origins = [f"{fact.name.split(' ', 1)[0].lower()} {fact.value}" for fact in view.provenance
               if fact.name.startswith(_HOMES)]  # fmt: skip
    about = "; ".join([f"Report made by rankscope {VERSION}", *origins])
    date = {"date": view.date, "year": view.date[:4]} if view.date else {}
    return {"title": view.title, **date, "note": about}


def _key(view: View) -> str:
    return "rankscope-" + (re.sub("[^a-z0-9]+", "-", view.name.lower()).strip("-") or "study")


def _entry(kind: str, key: str, fields: Fields) -> str:
    # Braces around the whole keep capitals and names of arms as they are.
    lines = [f"  {name} = {{{{{latex(value)}}}}}," if name == "title" else f"  {name} = {{{latex(value)}}},"
             for name, value in fields.items()]  # fmt: skip
    return "\n".join([f"@{kind}{{{key},", *lines, "}"])


def _arxiv(number: str, authors: str, title: str) -> Fields:
    return {"author": authors, "title": title, "year": f"20{number[:2]}", "eprint": number, "archiveprefix": "arXiv"}


def _journal(authors: str, title: str, journal: str, place: str, year: int) -> Fields:
    volume, number, pages = place.split(":")
    return {"author": authors, "title": title, "journal": journal, "volume": volume, "number": number,
            "pages": pages, "year": str(year)}  # fmt: skip


SOURCES: tuple[tuple[str, str, str, Fields], ...] = (
    ("2106.09685", "misc", "hu2021lora", _arxiv(
        "2106.09685",
        "Hu, Edward J. and Shen, Yelong and Wallis, Phillip and Allen-Zhu, Zeyuan and Li, Yuanzhi and Wang, Shean and "
        "Wang, Lu and Chen, Weizhu", "LoRA: Low-Rank Adaptation of Large Language Models")),
    ("2512.15634", "misc", "rank2025tradeoffs", {
        "title": "How Much is Too Much? Exploring LoRA Rank Trade-offs for Retaining Knowledge and Domain Robustness",
        "year": "2025", "eprint": "2512.15634", "archiveprefix": "arXiv"}),
    ("2312.03732", "misc", "kalajdzievski2023rslora", _arxiv(
        "2312.03732", "Kalajdzievski, Damjan", "A Rank Stabilization Scaling Factor for Fine-Tuning with LoRA")),
    ("2405.09673", "misc", "biderman2024lora", _arxiv(
        "2405.09673", "Biderman, Dan and others", "LoRA Learns Less and Forgets Less")),
    ("2411.00640", "misc", "miller2024errorbars", _arxiv(
        "2411.00640", "Miller, Evan",
        "Adding Error Bars to Evals: A Statistical Approach to Language Model Evaluations")),
    ("2005.14165", "misc", "brown2020few", _arxiv(
        "2005.14165", "Brown, Tom B. and others", "Language Models are Few-Shot Learners")),
    ("1905.13319", "misc", "amini2019mathqa", _arxiv(
        "1905.13319", "Amini, Aida and others",
        "MathQA: Towards Interpretable Math Word Problem Solving with Operation-Based Formalisms")),
    ("Wilson 1927", "article", "wilson1927", _journal(
        "Wilson, Edwin B.", "Probable Inference, the Law of Succession, and Statistical Inference",
        "Journal of the American Statistical Association", "22:158:209–212", 1927)),
    ("Clopper and Pearson 1934", "article", "clopper1934", _journal(
        "Clopper, C. J. and Pearson, E. S.",
        "The Use of Confidence or Fiducial Limits Illustrated in the Case of the Binomial", "Biometrika",
        "26:4:404–413", 1934)),
    ("Satterthwaite 1946", "article", "satterthwaite1946", _journal(
        "Satterthwaite, F. E.", "An Approximate Distribution of Estimates of Variance Components",
        "Biometrics Bulletin", "2:6:110–114", 1946)),
    ("McNemar 1947", "article", "mcnemar1947", _journal(
        "McNemar, Quinn",
        "Note on the Sampling Error of the Difference between Correlated Proportions or Percentages", "Psychometrika",
        "12:2:153–157", 1947)),
    ("Hanley and Lippman-Hand 1983", "article", "hanley1983", _journal(
        "Hanley, James A. and Lippman-Hand, Abby",
        "If Nothing Goes Wrong, Is Everything All Right? Interpreting Zero Numerators",
        "Journal of the American Medical Association", "249:13:1743–1745", 1983)),
    ("Breiman et al. 1984", "book", "breiman1984", {
        "author": "Breiman, Leo and Friedman, Jerome H. and Olshen, Richard A. and Stone, Charles J.",
        "title": "Classification and Regression Trees", "publisher": "Wadsworth", "year": "1984"}),
    ("Schuirmann 1987", "article", "schuirmann1987", _journal(
        "Schuirmann, Donald J.",
        "A Comparison of the Two One-Sided Tests Procedure and the Power Approach for Assessing the Equivalence of "
        "Average Bioavailability", "Journal of Pharmacokinetics and Biopharmaceutics", "15:6:657–680", 1987)),
    ("Searle, Casella and McCulloch 1992", "book", "searle1992", {
        "author": "Searle, Shayle R. and Casella, George and McCulloch, Charles E.", "title": "Variance Components",
        "publisher": "Wiley", "year": "1992"}),
    ("2509.04259", "misc", "shenfeld2025razor", _arxiv(
        "2509.04259", "Shenfeld, Idan and others", "RL's Razor: Why Online Reinforcement Learning Forgets Less")),
    ("1905.00414", "misc", "kornblith2019cka", _arxiv(
        "1905.00414", "Kornblith, Simon and Norouzi, Mohammad and Lee, Honglak and Hinton, Geoffrey",
        "Similarity of Neural Network Representations Revisited")),
    ("2410.21228", "misc", "shuttleworth2024intruders", _arxiv(
        "2410.21228", "Shuttleworth, Reece and Andreas, Jacob and Torralba, Antonio and Sharma, Pratyusha",
        "LoRA vs Full Fine-tuning: An Illusion of Equivalence")),
    ("2510.13003", "misc", "xiong2025oplora", _arxiv(
        "2510.13003", "Xiong, Y. and Xie, X.",
        "OPLoRA: Orthogonal Projection LoRA Prevents Catastrophic Forgetting during Parameter-Efficient Fine-Tuning")),
    ("Roy and Vetterli 2007", "inproceedings", "roy2007effective", {
        "author": "Roy, Olivier and Vetterli, Martin", "title": "The Effective Rank: A Measure of Effective "
        "Dimensionality", "booktitle": "15th European Signal Processing Conference", "pages": "606–610",
        "year": "2007"}),
    ("Rudelson and Vershynin 2007", "article", "rudelson2007sampling", {
        "author": "Rudelson, Mark and Vershynin, Roman", "title": "Sampling from Large Matrices: An Approach through "
        "Geometric Functional Analysis", "journal": "Journal of the ACM", "volume": "54", "number": "4",
        "year": "2007"}),
    ("Eckart and Young 1936", "article", "eckart1936approximation", _journal(
        "Eckart, Carl and Young, Gale", "The Approximation of One Matrix by Another of Lower Rank", "Psychometrika",
        "1:3:211–218", 1936)),
    ("Lin 1991", "article", "lin1991divergence", _journal(
        "Lin, Jianhua", "Divergence Measures Based on the Shannon Entropy", "IEEE Transactions on Information Theory",
        "37:1:145–151", 1991)),
    ("Dunn 1961", "article", "dunn1961multiple", _journal(
        "Dunn, Olive Jean", "Multiple Comparisons among Means", "Journal of the American Statistical Association",
        "56:293:52–64", 1961)),
    ("Spearman 1904", "article", "spearman1904proof", _journal(
        "Spearman, C.", "The Proof and Measurement of Association between Two Things",
        "The American Journal of Psychology", "15:1:72–101", 1904)),
    ("Cochran 1964", "article", "cochran1964", _journal(
        "Cochran, William G.", "Approximate Significance Levels of the Behrens-Fisher Test", "Biometrics",
        "20:1:191–195", 1964)),
    ("Efron 1979", "article", "efron1979", _journal(
        "Efron, Bradley", "Bootstrap Methods: Another Look at the Jackknife", "The Annals of Statistics",
        "7:1:1–26", 1979)),
    ("Hsu 1984", "article", "hsu1984", _journal(
        "Hsu, Jason C.", "Constrained Simultaneous Confidence Intervals for Multiple Comparisons with the Best",
        "The Annals of Statistics", "12:3:1136–1144", 1984)),
    ("Hothorn, Bretz and Westfall 2008", "article", "hothorn2008", _journal(
        "Hothorn, Torsten and Bretz, Frank and Westfall, Peter",
        "Simultaneous Inference in General Parametric Models", "Biometrical Journal", "50:3:346–363", 2008)),
)  # fmt: skip
