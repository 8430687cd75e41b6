"""Text in SMPP: alphabets, encodings, parts of long messages."""
