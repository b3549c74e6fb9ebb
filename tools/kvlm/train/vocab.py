"""The vocabulary of the kvlm model: bytes, special symbols, recall symbols.

Everything else in this directory, and vocab.md, follows this file.
"""

N_BYTES = 256

# Special symbols, ids 256..271.
BOS = 256       # begins every context
EOS = 257       # end of a file or of a sequence
UNK = 258       # never produced
FACT = 259      # FACT key key value value
QUERY = 260     # QUERY key key -> value value
CODE = 261      # what follows is C source
PROSE = 262     # what follows is documentation text
NOISE = 263     # what follows are random bytes or symbols without meaning
MORE = 264      # another passage of the same file follows
N_SPECIAL = 16

KEY0 = N_BYTES + N_SPECIAL      # 272: first key symbol
N_KEYS = 128
VAL0 = KEY0 + N_KEYS            # 400: first value symbol
N_VALS = 64
N_VOCAB = VAL0 + N_VALS         # 464

KEY_LEN = 2                     # key symbols in a key
VALUE_LEN = 2                   # value symbols in a value

_SPECIAL_NAMES = {
    BOS: "<|bos|>", EOS: "<|eos|>", UNK: "<|unk|>", FACT: "<|fact|>",
    QUERY: "<|query|>", CODE: "<|code|>", PROSE: "<|prose|>",
    NOISE: "<|noise|>", MORE: "<|more|>",
}


def token_name(i):
    """The text under which token i is listed in the GGUF file."""
    if i == 0x20:
        return "\u2581"         # how SentencePiece vocabularies write a space
    if i < N_BYTES:
        return "<0x%02X>" % i
    if i < KEY0:
        return _SPECIAL_NAMES.get(i, "<|reserved%02d|>" % (i - N_BYTES))
    if i < VAL0:
        return "<|k%03d|>" % (i - KEY0)
    return "<|v%02d|>" % (i - VAL0)
