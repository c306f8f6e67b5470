from __future__ import annotations

from pathlib import Path

from specvlm.cli import docs


def test_the_page_is_what_the_commands_say():
    page = Path(__file__).parents[2] / "docs" / "cli.md"
    assert page.read_text(encoding="utf-8") == docs.page(), "stale: python -m specvlm.cli.docs > docs/cli.md"
