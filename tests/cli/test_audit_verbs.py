"""`rankscope audit` and `rankscope adapter truncate` on the real command line: what is said, and how it ends."""

from __future__ import annotations

import json

import pytest

from made_adapters import SPOILED, save_adapter, save_model
from rankscope.cli.main import main


def test_an_audit_says_ranks_advice_and_what_is_left_out(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_adapter(tmp_path / "mine")
    assert main(["audit", "mine", "-o", "page.html"]) == 0
    out, err = capsys.readouterr()
    assert out.startswith("kind") and "q_proj" in out
    assert "Next: rankscope adapter truncate mine --energy 0.99 -o mine-99" in out
    assert "left out: Relative change" in out and out.endswith("page.html written\n")
    assert "Audit of mine" in (tmp_path / "page.html").read_text()
    assert "spectrum: 14/14 modules" in err


def test_with_json_an_audit_is_one_object(tmp_path, capsys):
    save_adapter(tmp_path / "mine")
    base = str(save_model(tmp_path / "base"))
    assert main(["audit", str(tmp_path / "mine"), "--base", base, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["base"] == base and len(told["modules"]) == 14 and told["summary"]["intruders"] >= 0


def test_quiet_says_nothing_beside_the_outcome(tmp_path, capsys):
    save_adapter(tmp_path / "mine")
    assert main(["audit", str(tmp_path / "mine"), "--quiet"]) == 0
    assert capsys.readouterr().err == ""


def test_truncating_says_what_was_kept_and_what_to_do_next(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    save_adapter(tmp_path / "mine")
    assert main(["adapter", "truncate", "mine", "--rank", "2", "-o", "small"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "small written: ranks 6 before, 2 now"
    assert lines[1].startswith("energy kept: ") and " % in the module that lost most" in lines[1]
    assert lines[2] == "parameters: 6,144 before, 2,048 now"
    assert lines[3] == "not judged: score it with rankscope score MODEL TASK --adapter small"


def test_a_rank_above_the_adapter_s_is_said_to_change_nothing(tmp_path, capsys):
    save_adapter(tmp_path / "mine")
    small = str(tmp_path / "small")
    assert main(["adapter", "truncate", str(tmp_path / "mine"), "--rank", "9", "-o", small]) == 0
    assert "unchanged: 14 of 14 modules, whose rank is not above what was asked for" in capsys.readouterr().out


def test_with_json_truncating_is_one_object(tmp_path, capsys):
    save_adapter(tmp_path / "mine")
    small = str(tmp_path / "small")
    assert main(["adapter", "truncate", str(tmp_path / "mine"), "--energy", "0.9", "-o", small, "--json"]) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["energy_kept"]["least"] >= 0.9 - 1e-9 and told["parameters"]["after"] < told["parameters"]["before"]
    assert len(told["modules"]) == 14 and told["folder"] == small


@pytest.mark.parametrize("name", SPOILED)
@pytest.mark.parametrize("verb", ["audit", "adapter truncate"])
def test_a_damaged_adapter_is_one_line_and_exit_code_2(verb, name, tmp_path, capsys):
    SPOILED[name][0](save_adapter(tmp_path / "mine"))
    more = ["--rank", "2", "-o", str(tmp_path / "small")] if verb != "audit" else []
    assert main([*verb.split(), str(tmp_path / "mine"), *more]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1


def test_wishes_that_exclude_each_other_exit_with_2(tmp_path, capsys):
    save_adapter(tmp_path / "mine")
    mine, small = str(tmp_path / "mine"), str(tmp_path / "small")
    for more in ([], ["--rank", "2", "--energy", "0.9"], ["--rank", "0"], ["--energy", "2"]):
        assert main(["adapter", "truncate", mine, "-o", small, *more]) == 2
    assert main(["adapter", "truncate", mine, "-o", mine, "--rank", "2"]) == 2
    assert main(["audit", mine, "-o", str(tmp_path / "no" / "page.html")]) == 2
    assert not (tmp_path / "small").exists() and capsys.readouterr().out == ""
