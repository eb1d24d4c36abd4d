"""A configuration as text for reading: every key with its value, default, meaning and source."""

import textwrap

from rad_jax.config.keys import Key, keys
from rad_jax.config.messages import show_value
from rad_jax.config.sections import Config

COLUMNS = 80

# Where the default of a key comes from.
SOURCES = {
    "paper": "arXiv 2511.12940",
    "code": "public code of the paper's authors, yeyutaihan/vrag and christinaz21/mem-consistency-oasis, read for facts",
    "thesis": "arXiv 2607.17560, chapters 9 and 10",
    "oasis": "etched-ai/open-oasis",
    "authors": "default of the authors of that memory",
    "ours": "a choice of this project",
}


def format_config(config: Config) -> str:
    """All keys, section by section, in lines of at most 80 columns unless a single word is longer."""
    lines: list[str] = []
    for name, section in config.sections().items():
        title = type(section).__doc__
        lines += [f"{name}: {title}" if name else title, ""]
        for field, declared in keys(type(section)).items():
            lines += format_key(declared, getattr(section, field))
        lines.append("")
    lines.append("Sources of the defaults:")
    for name, meaning in SOURCES.items():
        lines += wrap(f"[{name}] {meaning}", "  ")
    return "\n".join(lines) + "\n"


def format_key(declared: Key, value: object) -> list[str]:
    """``key = value``, with the default if it is another, and below it what the key means."""
    lines = [f"  {declared.path} = {show_value(value)}".rstrip()]
    if " " in show_value(value):
        # A shell command, which with a backslash at its line ends can still be pasted.
        lines = " \\\n".join(wrap(lines[0], "", COLUMNS - 2)).split("\n")
    if value != declared.default:
        note = f"# default: {show_value(declared.default) or 'empty'}"
        if len(lines[-1]) + len(note) + 2 <= COLUMNS:
            lines[-1] += f"  {note}"
        else:
            lines.append(f"      {note}")
    return lines + wrap(f"{declared.help} [{declared.source}]", "      # ")


def wrap(text: str, indent: str, columns: int = COLUMNS) -> list[str]:
    """Lines of a text; words, paths among them, stay whole. Comments are indented alike, values after their first line."""
    return textwrap.wrap(
        text,
        columns,
        initial_indent=indent,
        subsequent_indent=indent if "#" in indent else "      ",
        break_long_words=False,
        break_on_hyphens=False,
    )
