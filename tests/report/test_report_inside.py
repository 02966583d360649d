"""Inside the model: what was planted by layer, kind and block is what the rows, the sentence and the page say."""

from __future__ import annotations

import json
import math
import re
from dataclasses import replace
from html import unescape

import numpy as np
import pytest

from rankscope.records import Estimate, Reading
from rankscope.report import causes, inside, render
from rankscope.report.cause_charts import small_multiples
from rankscope.report.charts import charts
from rankscope.report.depth import bucket_ends
from rankscope.report.family import POOLED
from rankscope.report.inside_charts import heat_maps
from rankscope.report.inside_rows import Seat
from rankscope.report.inside_sections import by_size
from rankscope.report.page import sections
from rankscope.report.view import build
from report.inside_planted import ASKED, LAYERS, one, relative, with_inside


@pytest.fixture(scope="module")
def looked(evidence):
    return with_inside(evidence)


@pytest.fixture(scope="module")
def view(looked):
    return build(looked)


@pytest.fixture(scope="module")
def single(evidence):
    return build(with_inside(evidence, (0,)))


@pytest.fixture(scope="module")
def drawn(view):
    return charts(view)


def changed(evidence, name, change):
    """The evidence with every diagnosis of that name put through ``change``: run key, readings -> readings."""
    found = {
        (key, diagnostic): replace(d, readings=tuple(change(key, d.readings))) if diagnostic == name else d
        for (key, diagnostic), d in evidence.diagnoses.items()
    }
    return replace(evidence, diagnoses=found)


def without(evidence, *names):
    return replace(evidence, diagnoses={key: d for key, d in evidence.diagnoses.items() if key[1] not in names})


def only(evidence, *names):
    return replace(evidence, diagnoses={key: d for key, d in evidence.diagnoses.items() if key[1] in names})


def row(view, arm, name, **where):
    asked = {"part": "", "layer": None, "kind": "", **where}
    (found,) = [r for r in view.inside.rows if (r.arm, r.name) == (arm, name)
                and all(getattr(r, key) == value for key, value in asked.items())]  # fmt: skip
    return found.estimate


def section(view, id):
    return next(s for s in sections(view) if s.id == id)


def test_relative_change_of_a_layer_is_the_planted_one_over_seeds(view):
    found = row(view, "lora-r4", "relative change", layer=5)
    planted = [relative(5, 4, seed) for seed in (0, 1)]
    assert found.value == pytest.approx(np.mean(planted))
    assert (found.num_seeds, found.scope) == (2, "seeds")
    assert found.high - found.value == pytest.approx(12.7062 * abs(planted[0] - planted[1]) / 2, rel=1e-4)


def test_matrices_are_put_together_by_their_norms_and_not_by_a_mean_of_ratios(looked):
    def one_large(key, readings):
        for r in readings:
            if r.layer == 0 and r.module.endswith("q_proj") and r.name in ("frobenius", "relative_frobenius"):
                yield replace(r, values=(30.0 if r.name == "frobenius" else 0.3,))  # ||W|| is 100 here
            else:
                yield r

    found = row(build(changed(only(looked, "spectrum"), "spectrum", one_large)), "lora-r4", "relative change", layer=0)
    others = [10 * relative(0, 4, seed) for seed in (0, 1)]
    wanted = [math.sqrt((900 + 3 * d * d) / (100**2 + 3 * 10**2)) for d in others]
    assert found.value == pytest.approx(np.mean(wanted))


def test_intruders_are_summed_and_ranks_averaged_over_matrices(view):
    assert row(view, "lora-r16", "intruders", layer=11).value == 4 * 5
    assert row(view, "lora-r16", "intruders").value == 4 * (1 + 2 + 3 + 4 + 5)
    assert row(view, "lora-r16", "intruders", kind="q_proj").value == 15
    assert row(view, "lora-r4", "effective rank", layer=3).value < 4


def test_the_embedding_is_a_place_of_its_own_and_in_no_mean_over_layers(view):
    assert row(view, "lora-r1", "CKA distance", kind="embedding", part="train").value == pytest.approx(1e-4)
    layers = [row(view, "lora-r1", "CKA distance", layer=i, part="train").value for i in range(LAYERS)]
    assert row(view, "lora-r1", "CKA distance", part="train").value == pytest.approx(np.mean(layers))
    change = row(view, "full", "relative change", kind="embed_tokens")
    assert change.value == pytest.approx(0.004)


def test_one_seed_has_no_interval_and_says_so(single):
    assert all(r.estimate.scope == "this seed only" for r in single.inside.rows if r.estimate)
    cells = [c for t in section(single, "inside").tables for r in t.rows for c in r]
    assert any(c.note == "one seed: no interval" for c in cells)
    assert all(q.answer == "undecided" and "one seed" in q.why for q in single.inside.questions)
    assert "(one seed: no interval)" in single.inside.leads[0][2]


def test_the_block_that_carries_gain_or_forgetting_is_the_planted_one(view):
    seats = {(s.arm, s.task): s for s in view.inside.seats}
    gain, loss = seats["lora-r16", "qa-a"], seats["full", POOLED]
    assert (gain.places, gain.is_shown) == (("layers 6-8",), True) and gain.whole.low > 0
    assert (loss.places, loss.is_shown) == (("layers 9-11",), True) and loss.whole.high < 0
    letters = seats["full", "letters"]  # nothing happens there
    assert not letters.is_shown and len(letters.places) == 4


def test_switched_off_and_alone_are_paired_differences_of_the_same_items(looked, view):
    (found,) = [c for c in view.inside.carried if (c.arm, c.task, c.place) == ("full", "trivia", "layers 9-11")]
    readings = {r.variant: np.array(r.values) for r in looked.diagnoses["qa-a-full-0.0001-0", "attribution"].readings
                if r.part == "trivia" and r.name == "score"}  # fmt: skip
    assert found.lost.value == pytest.approx((readings[""] - readings["without layers 9-11"]).mean())
    assert found.gained.value == pytest.approx((readings["only layers 9-11"] - readings["none"]).mean())
    assert found.lost.num_items == ASKED and found.lost_mark == "negative"
    text = [c for c in view.inside.carried if (c.arm, c.task, c.place) == ("full", "neutral_text", "layers 9-11")]
    assert text[0].lost.value < 0  # cross-entropy rises with it: turned, so that positive is better


def test_items_of_one_passage_count_as_a_cluster(looked):
    passages = {
        key: replace(e, scores=tuple(replace(s, cluster=f"p{i // 20}") for i, s in enumerate(e.scores)))
        for key, e in looked.evals.items()
    }
    (found,) = [c for c in build(replace(only(looked, "attribution"), evals=passages)).inside.carried
                if (c.arm, c.task, c.place) == ("full", "trivia", "layers 9-11")]  # fmt: skip
    assert "clustered" in found.lost.method


def test_items_that_do_not_fit_the_stored_ones_take_no_clusters_from_them(looked):
    def turned(key, readings):
        for r in readings:
            yield replace(r, values=tuple(1 - v for v in r.values)) if r.part == "trivia" else r

    passages = {
        key: replace(e, scores=tuple(replace(s, cluster=f"p{i // 20}") for i, s in enumerate(e.scores)))
        for key, e in looked.evals.items()
    }
    found = build(changed(replace(only(looked, "attribution"), evals=passages), "attribution", turned)).inside.carried
    assert all("clustered" not in c.lost.method for c in found if c.task == "trivia")


def test_the_lead_says_where_most_changed_and_where_gain_and_forgetting_sit(view, looked):
    (_, _, said) = view.inside.leads[0]
    assert "the weights of layers 9–11 moved most" in said and "The gain (qa-a) sits elsewhere, in layers 6–8" in said
    only_full = replace(looked, diagnoses={k: d for k, d in looked.diagnoses.items() if k[0].startswith("qa-a-full")})
    (_, _, said) = build(only_full).inside.leads[0]
    assert "The forgetting (retention, pooled) sits there too: switching their update off gives back" in said
    (_, _, said) = build(only(looked, "spectrum")).inside.leads[0]
    assert "the weights of layers 8–11 moved most" in said and said.endswith("was not measured.")


def test_the_search_for_layers_keeps_the_planted_share_of_the_validation_gain(view):
    kept = {k.variant: k for k in view.inside.kept if k.arm == "lora-r4"}
    assert list(kept) == ["kept 1", "kept 2", "kept 3", "proposal"]
    for variant, share in (("kept 1", 0.6), ("kept 2", 0.9), ("proposal", 0.96)):
        assert kept[variant].share.low < share < kept[variant].share.high
    assert kept["proposal"].kind_ranks == (("q_proj", 4), ("k_proj", 0), ("up_proj", 8))
    text = render(view, "md")
    assert "k\\_proj left out" in text and "3–11" in text


def test_without_a_shown_fall_of_the_loss_there_is_no_share_of_it(looked):
    def flat(key, readings):
        for r in readings:
            yield replace(r, values=tuple(2 + 0.1 * math.sin(i) for i in range(80))) if r.name == "loss" else r

    kept = build(changed(only(looked, "attribution"), "attribution", flat)).inside.kept
    assert kept and all(k.share is None and "no fall" in k.why for k in kept)


def test_a_cut_update_stands_beside_the_arm_trained_at_that_rank(view, looked):
    rows = {(t.arm, t.rank): t for t in view.inside.truncated if t.task == "qa-a"}
    cut = rows["lora-r16", 4]
    assert cut.trained_arm == "lora-r4" and cut.gap.value == pytest.approx(cut.score.value - cut.trained.value)
    stored = looked.evals["qa-a-lora-r4-0.001-0", "qa-a"].scores[:ASKED]
    assert cut.trained.value == pytest.approx(np.mean([s.value for s in stored]))
    assert rows["lora-r16", 8].trained is None and rows["lora-r16", None].score.value > cut.score.value


def test_claims_are_answered_from_the_readings(view, looked):
    answers = {q.claim: q.answer for q in view.inside.questions}
    assert list(answers.values()) == ["holds"] * 4

    def turned(key, readings):
        for r in readings:
            yield replace(r, layer=LAYERS - 1 - r.layer) if r.layer is not None else r

    upside = {q.claim: q.answer for q in build(changed(only(looked, "spectrum"), "spectrum", turned)).inside.questions}
    assert upside["Middle and upper layers change more than lower ones"] == "does not hold"


def test_what_is_explored_is_labelled_so_and_has_no_verdict(view):
    found = {f.name: f for f in view.inside.findings}
    assert found["KL to the base on train rows and forgetting"].value.startswith("rho +0.")
    assert "nearest" in found["Spectral estimate of the rank that is enough"].value
    mechanism = section(view, "mechanism")
    assert "exploratory" in mechanism.intro and any("Exploratory" in t.caption for t in mechanism.tables)
    full = [p for p in view.inside.points if p.arm == "full"]
    assert len(full) == 2 and all(p.forgotten == pytest.approx(0.16, abs=0.02) and p.intruders == 4 * 27 for p in full)


def test_kl_by_position_has_doubling_buckets(view):
    assert bucket_ends(5) == ((1, 1), (2, 2), (3, 4), (5, 8), (9, 16))
    (found,) = [r for r in view.inside.reach if r.arm == "lora-r4"]
    assert found.estimates[1].value == pytest.approx(0.02) and found.part == "train"


def nothing(key, readings):
    """A zero update: norms 0, every rank missing."""
    for r in readings:
        if r.name in ("frobenius", "relative_frobenius", "total_frobenius", "spectral"):
            yield replace(r, values=(0.0,))
        elif r.name == "singular_values":
            yield replace(r, values=(0.0,) * len(r.values))
        else:
            yield replace(r, values=(None,))


def test_a_zero_update_is_zero_change_and_no_rank_and_never_nan(looked):
    def one_arm(key, readings):
        return nothing(key, readings) if "lora-r4" in key else readings

    view = build(changed(only(looked, "spectrum"), "spectrum", one_arm))
    assert row(view, "lora-r4", "relative change", layer=3).value == 0.0
    assert row(view, "lora-r4", "effective rank", layer=3) is None
    assert not [s for s in view.inside.spectra if s.arm == "lora-r4"]
    table = next(t for t in section(view, "inside").tables if t.id == "inside-0")
    (cells,) = [r for r in table.rows if r[0].text == "lora-r4"]
    assert "not defined" in {c.note for c in cells} and cells[2].text == "0"
    no_nan(view)


def no_nan(view):
    for format in ("md", "json"):
        assert not re.search(r"\b(nan|inf|NaN|Infinity)\b", render(view, format))
    json.dumps([c.spec for c in (*heat_maps(view), *small_multiples(view))], allow_nan=False)


def test_where_every_update_is_zero_or_every_number_missing_the_page_still_stands(looked):
    nothing_moved = build(changed(only(looked, "spectrum", "drift"), "spectrum", nothing))
    assert "no weight is recorded to have changed" in nothing_moved.inside.leads[0][2]
    no_nan(nothing_moved)
    empty = looked
    for name in {name for _, name in looked.diagnoses}:
        empty = changed(empty, name, lambda key, found: (replace(r, values=(None,) * len(r.values)) for r in found))
    no_nan(build(empty))
    extra = one("cka_distance", math.nan, layer=0, part="train")
    strange = changed(without(looked, "attribution", "truncation"), "drift", lambda key, found: (*found, extra))
    no_nan(build(strange))


def test_a_failed_diagnostic_is_said_with_its_reason_and_others_stand(looked):
    found = {
        (key, name): replace(d, status="failed", message="weights in 4 bits", readings=()) if name == "drift" else d
        for (key, name), d in only(looked, "spectrum", "drift").diagnoses.items()
    }
    view = build(replace(looked, diagnoses=found))
    assert {(u.name, u.why) for u in view.inside.unread if u.name == "drift"} == {("drift", "weights in 4 bits")}
    assert not view.inside.reach and view.inside.spectra
    reshapes = next(q for q in view.inside.questions if "reshapes" in q.claim)
    assert reshapes.answer == "not asked"
    assert "weights in 4 bits" in render(view, "md")


def test_a_study_without_diagnoses_has_no_such_sections(evidence):
    found = {s.id for s in sections(build(replace(evidence, diagnoses={})))}
    assert not found & {"inside", "kinds", "attribution", "truncation", "reach", "mechanism"}


def test_every_panel_has_the_same_layer_axis_and_arms_by_rank_with_full_last(drawn):
    (chart,) = [c for c in drawn if c.id == "depth-0"]
    panels = chart.spec["hconcat"]
    assert len(panels) == 7 and chart.spec["resolve"]["scale"]["y"] == "shared"
    for panel in panels:
        boxes = panel["layer"][0]["encoding"]
        assert boxes["y"]["scale"]["domain"] == [-0.5, LAYERS - 0.5]
        assert boxes["x"]["sort"] == ["lora-r1", "lora-r4", "lora-r16", "full"]
    titles = [" ".join(p["title"]["text"]) for p in panels]
    assert titles[3] == "CKA distance (train)" and titles[5] == "Carries gain (qa-a), points"
    assert "largest" in chart.alt and re.search(r"lora-r16 \+1\d\.\d in layers 6–8", chart.alt)


def test_a_cell_without_a_number_is_an_empty_box_that_says_so(looked):
    few = only(looked, "spectrum", "drift")
    found = {key: d for key, d in few.diagnoses.items() if not (key[1] == "spectrum" and "lora-r1-" in key[0])}
    (chart,) = [c for c in heat_maps(build(replace(looked, diagnoses=found))) if c.id == "depth-0"]
    texts = json.dumps(chart.spec)
    assert "not measured" in texts and "!isValid(datum.value)" in texts


def test_an_arm_whose_parts_were_not_asked_takes_no_column(looked):
    found = {key: d for key, d in looked.diagnoses.items() if not (key[1] == "attribution" and "lora-r1-" in key[0])}
    (chart,) = [c for c in heat_maps(build(replace(looked, diagnoses=found))) if c.id == "depth-0"]
    arms = [panel["layer"][0]["encoding"]["x"]["sort"] for panel in chart.spec["hconcat"]]
    assert arms[0] == ["lora-r1", "lora-r4", "lora-r16", "full"] and arms[-1] == arms[-2] == arms[0][1:]


def test_kinds_are_sorted_by_how_much_they_changed(view):
    rows = {(r.kind, r.arm): r for r in view.inside.rows if r.name == "relative change" and r.kind}
    assert by_size(rows)[-1] == "embed_tokens"


def test_every_number_inside_says_how_it_was_computed_and_every_chart_has_its_section(view, drawn):
    for table in (table for s in sections(view) for table in s.tables):
        silent = [table.titles[i] for i in table.numeric if not table.columns[i].how]
        assert not silent, f"{table.id}: {silent}"
        assert all(c.how.endswith(".") and len(c.how) < 420 for c in table.columns if c.how), table.id
        assert len({len(r) for r in table.rows} | {len(table.columns)}) == 1
    places = {s.id for s in sections(view)} | {"verdict"}
    assert len({c.id for c in drawn}) == len(drawn) and all(c.section in places and c.alt for c in drawn)
    ids = [t.id for s in sections(view) for t in s.tables]
    assert len(ids) == len(set(ids))


def test_the_page_folds_long_tables_and_stays_small(view, drawn, monkeypatch):
    monkeypatch.setattr("rankscope.report.html.charts", lambda view: drawn)
    page = render(view, "html")
    assert len(page.encode()) < 3_000_000
    assert page.count('<details class="fold">') > 10
    assert "the weights of layers 9–11 moved most" in unescape(page)
    assert len(render(view, "json")) < 1_500_000


def test_singular_values_are_kept_at_some_places_only(looked):
    many = tuple(float(v) for v in 0.99 ** np.arange(2000))

    def long(key, readings):
        for r in readings:
            yield Reading("singular_values", many, r.layer, r.module) if r.name == "singular_values" else r

    (found,) = [s for s in build(changed(only(looked, "spectrum"), "spectrum", long)).inside.spectra
                if (s.arm, s.kind) == ("full", "q_proj")]  # fmt: skip
    assert len(found.positions) < 30 and found.positions[-1] == 2000 and found.num_matrices == 2 * LAYERS
    assert found.shares[found.positions.index(64)] == pytest.approx(0.99**63)


def test_a_block_of_one_layer_is_called_a_layer():
    assert [causes.place_words(p) for p in ("layers 3-3", "layers 0-5", "layer 7", "q_proj", "embeddings")] == [
        "layer 3", "layers 0–5", "layer 7", "q_proj", "embeddings"]  # fmt: skip


def test_the_opening_tells_where_a_rise_of_cross_entropy_sits_where_no_answers_were_lost():
    def seat(task, role, metric, value, places, shown=True):
        whole, largest = (Estimate(v, v - 0.01, v + 0.01, 0.004, 20, 1) for v in (value, value / 2))
        return Seat("m", "t", "lora-r4", task, role, metric, whole, places, 3, largest, shown)

    kept = seat("quiz", "retention", "accuracy", 0.0, ("layers 0-1",), False)
    text = seat("prose", "retention", "cross_entropy", -0.12, ("layers 4-5",))
    said = inside._placed([seat("qa", "in_domain", "accuracy", 0.3, ("layers 4-5",)), kept, text], None)
    assert said[0].startswith("The gain (qa) sits in layers 4–5: switching their update off costs 15.0")
    assert said[1] == "No forgetting (quiz) is shown on the items asked."
    assert said[2].startswith("The rise of cross-entropy (prose) sits in layers 4–5: switching their update off gives")
    level = replace(text, whole=Estimate(0.0, -0.01, 0.01, 0.004, 20, 1))
    assert not any("cross-entropy" in sentence for sentence in inside._placed([kept, level], None))
