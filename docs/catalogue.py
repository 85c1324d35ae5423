"""Writes docs/options.md: every option of every group, from the first line of its YAML file.

python docs/catalogue.py
"""

from pathlib import Path

from espalier.commands.catalogue import DEFAULTS, options


def catalogue() -> str:
    """The page as Markdown."""
    lines = ["# Options", "", "Made by `make docs` from the files in `conf/`; `espalier list` prints the same.", ""]
    for group, default in DEFAULTS.items():
        lines += [f"## {group}", "", "| option | |", "|---|---|"]
        lines += [
            f"| `{name}`{' (default)' if name == default else ''} | {text} |" for name, text in options(group).items()
        ]
        lines.append("")
    return "\n".join(lines)


if __name__ == "__main__":
    Path(__file__).with_name("options.md").write_text(catalogue(), encoding="utf-8")
