r"""What a token looks like on the screen.

Space is ``·``, newline ``⏎``, tab ``⇥``, a token without any text ``∅``; ``\xNN`` is one byte (a control character,
or a byte of a cut character); ``\u{...}`` is a character that cannot be seen alone: invisible, a bidi control, a
combining mark without a base, a real ``·`` or ``∅``. Two different tokens never get the same form: a backslash of the
text is doubled (unless it is the whole token), and where Unicode calls a text equivalent to another (e + accent, é) the
unusual spelling is written out.
"""

import unicodedata

EMPTY = "∅"  # a token whose text is empty would be invisible everywhere
_GLYPHS = {" ": "·", "\n": "⏎", "\t": "⇥", "\\": "\\\\"}
# Printable by Python's account, and yet: the glyphs themselves, the replacement character, and what draws nothing.
_ESCAPED = frozenset(
    f"·⏎⇥{EMPTY}"
    + "\ufffd\u034f\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0"
    + "".join(map(chr, [*range(0x180B, 0x1810), *range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)]))
)


def visible_text(text: str) -> str:
    r"""The form in which a token's text is drawn.

    Example:
        >>> print(visible_text(" a\n"), visible_text("\x00"), visible_text("\u202e"))
        ·a⏎ \x00 \u{202e}
        >>> print(visible_text(""), visible_text("∅"))
        ∅ \u{2205}
    """
    if not text:
        return EMPTY
    if text == "\\":
        return text
    unusual = unicodedata.normalize("NFC", text) != text
    shown: list[str] = []
    has_base = False  # whether the last character can carry a combining mark
    for character in text:
        mark = unicodedata.category(character).startswith("M")
        hidden = not character.isprintable() or character in _ESCAPED or (unusual and character > "\x7f")
        if character in _GLYPHS:
            shown.append(_GLYPHS[character])
            has_base = False
        elif hidden or (mark and not has_base):
            shown.append(_escape(character))
            has_base = False
        else:
            shown.append(character)
            has_base = True
    return "".join(shown)


def isolated(token: str) -> str:
    r"""A drawn token within a sentence: one that is written right to left is shut off, the words keep their order.

    Example:
        >>> isolated("·Ada"), ascii(isolated("\u05d0"))
        ('·Ada', "'\\u2068\\u05d0\\u2069'")
    """
    turns = any(unicodedata.bidirectional(character) in ("R", "AL", "AN") for character in token)
    return f"\u2068{token}\u2069" if turns else token


def visible_bytes(data: bytes) -> str:
    r"""The form in which a token's bytes are drawn: text where they are UTF-8, ``\xNN`` where they are not.

    Example:
        >>> print(visible_bytes("é".encode()), visible_bytes(b" \xf0\x9f"))
        é ·\xf0\x9f
    """
    return visible_text(data.decode("utf-8", errors="surrogateescape"))  # a stray byte NN comes as U+DCNN


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00
        return f"\\x{code:02x}"
    return f"\\x{code:02x}" if code < 0x80 else f"\\u{{{code:x}}}"


def character_name(character: str) -> str:
    """A character as a person would look it up: glyph, code point, name."""
    official = unicodedata.name(character, "")
    return f"{visible_text(character)!r} (U+{ord(character):04X}{' ' * bool(official)}{official})"
