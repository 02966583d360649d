"""One more arm goes into a study file, and everything else in it stays as it was."""

from __future__ import annotations

import os

import pytest

from rankscope.config import from_dict, load
from rankscope.config.append import append_arm, arm_text, find_twin, with_item
from rankscope.errors import ConfigError
from rankscope.records import Arm

HEAD = "# mine\nmodels: [demo]   # small\ntrain: [gsm8k]\n"
TAIL = "training: {seeds: [0]}   # one is enough\n"
LEAN = Arm("lora-r8-lean", "lora", (1e-3,), rank=8, alpha=32.0, layers=(8, 9), rank_pattern=(("q_proj", 4),))
ENTRY = "lora: {name: lora-r8-lean, rank: 8, alpha: 32, layers: 8-9, rank_pattern: {q_proj: 4}, lr: 0.001}"

LISTS = {
    "one item a line": (
        "arms:\n  - base\n  - lora: {rank: 8}   # the first\n  # - full\n\n",
        f"arms:\n  - base\n  - lora: {{rank: 8}}   # the first\n  - {ENTRY}\n  # - full\n\n",
    ),
    "no indentation": ("arms:\n- base\n- lora: {rank: 8}\n", f"arms:\n- base\n- lora: {{rank: 8}}\n- {ENTRY}\n"),
    "wide dashes and blocks": (
        "arms:\n    -   base\n    -   lora:\n            rank: [4, 8]\n            lr: auto # tuned\n\n# then\n",
        "arms:\n    -   base\n    -   lora:\n            rank: [4, 8]\n            lr: auto # tuned\n"
        f"    - {ENTRY}\n\n# then\n",
    ),
    "a last item below its dash": (
        "arms:\n- base\n-\n  lora:\n    rank: 8\n", f"arms:\n- base\n-\n  lora:\n    rank: 8\n- {ENTRY}\n",
    ),
    "a last item without a value": (
        "arms:\n  - lora: {rank: 8}\n  - full:  # all of it\n", 
        f"arms:\n  - lora: {{rank: 8}}\n  - full:  # all of it\n  - {ENTRY}\n",
    ),
    "a folded text": (
        "arms:\n  - lora:\n      rank: 8\n      name: >-\n        small\n",
        f"arms:\n  - lora:\n      rank: 8\n      name: >-\n        small\n  - {ENTRY}\n",
    ),
    "an anchor": (
        "arms: &all\n  - &one {lora: {rank: 8}}\n", f"arms: &all\n  - &one {{lora: {{rank: 8}}}}\n  - {ENTRY}\n",
    ),
    "brackets": (
        "arms: [base, {lora: {rank: 8}}] # two\n", f"arms: [base, {{lora: {{rank: 8}}}}, {{{ENTRY}}}] # two\n",
    ),
    "brackets over lines": (
        "arms: [\n  base,\n  {lora: {rank: 8}} # [the first, of all]\n]\n",
        f"arms: [\n  base,\n  {{lora: {{rank: 8}}}}, # [the first, of all]\n  {{{ENTRY}}}\n]\n",
    ),
    "brackets over lines with a last comma": (
        "arms: [\n  base,\n  {lora: {rank: 8}},   # one\n]\n",
        f"arms: [\n  base,\n  {{lora: {{rank: 8}}}},   # one\n  {{{ENTRY}}},\n]\n",
    ),
    "brackets that close after the last item": (
        "arms: [base,\n       {lora: {rank: 8}}]\n", f"arms: [base,\n       {{lora: {{rank: 8}}}}, {{{ENTRY}}}]\n",
    ),
}  # fmt: skip


@pytest.mark.parametrize("end", ["\n", "\r\n"], ids=["unix", "windows"])
@pytest.mark.parametrize("name", LISTS)
def test_the_arm_stands_at_the_end_of_the_list_in_the_lists_own_form(name, end, tmp_path):
    before, after = (text.replace("\n", end) for text in LISTS[name])
    head, tail = HEAD.replace("\n", end), TAIL.replace("\n", end)
    path = tmp_path / "s.yaml"
    path.write_bytes((head + before + tail).encode())
    arms = load(path).arms()
    append_arm(path, LEAN)
    assert path.read_bytes().decode() == head + after + tail
    assert load(path).arms() == (*arms, LEAN)
    assert [p.name for p in tmp_path.iterdir()] == ["s.yaml"]


def test_a_list_at_the_very_end_of_the_file_needs_no_last_line_break():
    text = HEAD + "arms:\n  - lora: {rank: 8}"
    assert with_item(text, ENTRY, "s.yaml") == f"{text}\n  - {ENTRY}"


@pytest.mark.parametrize(
    "arm",
    [
        LEAN,
        Arm("a", "lora", (1e-5, 3e-4), rank=4, alpha=12.5, targets=("q_proj", "v_proj"), scaling="rslora", dropout=0.1),
        Arm("b", "lora", (1e-4, 3e-4, 1e-3), True, rank=4, alpha=32.0, layers=(0, 1, 2, 12), targets=("y",)),
        Arm("1.5", "lora", (1.0,), rank=4, alpha=1e-7, rank_pattern=((r".*\.[qv]_proj", 2),),
            alpha_pattern=(("null", 2.0),)),
    ],
)  # fmt: skip
def test_what_is_written_of_an_arm_is_read_as_that_arm(arm, tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(HEAD + f"arms:\n  - {arm_text(arm)}\n")
    assert load(path).arms()[1] == arm


@pytest.mark.parametrize("arms", ["list: &a [base, {lora: {rank: 8}}]\narms: *a\n", "arms:\n  -\n    base\n"])
def test_a_list_that_is_not_a_plain_one_is_left_to_the_user(arms):
    with pytest.raises(ConfigError, match="can't be added to.*Write it there yourself: - lora: {name: lora-r8-lean"):
        with_item(HEAD + arms, ENTRY, "s.yaml")


def test_a_file_that_would_be_wrong_afterwards_stays_as_it_was(tmp_path):
    path = tmp_path / "s.yaml"
    path.write_text(text := HEAD + "arms:\n  - lora: {rank: 8, name: lora-r8-lean}\n")
    with pytest.raises(ConfigError, match=r"s\.yaml:6: .*there is an arm 'lora-r8-lean' already"):
        append_arm(path, LEAN)
    assert path.read_text() == text and [p.name for p in tmp_path.iterdir()] == ["s.yaml"]


def test_a_link_stays_a_link_and_the_file_keeps_its_mode(tmp_path):
    path, link = tmp_path / "s.yaml", tmp_path / "link.yaml"
    path.write_text(HEAD + "arms:\n  - lora: {rank: 8}\n")
    path.chmod(0o640)
    link.symlink_to(path)
    append_arm(link, LEAN)
    assert link.is_symlink() and os.stat(path).st_mode & 0o777 == 0o640 and load(path).arms()[-1] == LEAN


def test_the_same_treatment_is_found_under_any_name(minimal):
    arms = from_dict({**minimal, "arms": [{"lora": {"rank": 8, "name": "mine", "layers": "8-9", "lr": 1e-3}}]}).arms()
    twin = Arm("yours", "lora", (1e-3,), rank=8, alpha=32.0, layers=(8, 9))
    assert find_twin(arms, twin).name == "mine" and find_twin(arms, LEAN) is None
