"""lm-evaluation-harness's own command line, with the model ``rankscope``: ``python -m rankscope.harness run ...``."""

from __future__ import annotations

import sys

from rankscope.errors import RankscopeError


def main() -> int:
    """The harness's exit code, or 1 or 2 with one sentence for what rankscope refuses."""
    try:
        from lm_eval.__main__ import cli_evaluate

        import rankscope.harness.model  # noqa: F401 (it registers itself)
    except ModuleNotFoundError as error:
        if error.name != "lm_eval":
            raise
        print("this needs the package lm_eval. Next: pip install 'lm_eval>=0.4.12'", file=sys.stderr)
        return 2
    try:
        cli_evaluate()
    except RankscopeError as error:
        print(f"error: {error}", file=sys.stderr)
        return error.exit_code
    return 0


if __name__ == "__main__":
    sys.exit(main())
