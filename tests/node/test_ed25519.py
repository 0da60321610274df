"""Signature checks in plain Python: the RFC's vectors, Wycheproof's kinds of cases, forged ones.

The forged cases are made here with a signer that may do everything wrong: a signature whose
equation holds in spite of a strange R, S or key shows more than a random flip.
"""

import hashlib
import random

import pytest

from app.core.notekey import Signer
from app.node import ed25519
from app.node.ed25519 import _BASE, _L, _P, _add, _decode, _encode, _multiply, verifies

# RFC 8032, section 7.1: TEST 1, 2, 3 and SHA(abc), as public key, message, signature.
RFC_8032 = [
    (
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
    (
        "fc51cd8e6218a1a38da47ed00230f0580816ed13ba3303ac5deb911548908025",
        "af82",
        "6291d657deec24024827e69c3abe01a30ce548a284743a445e3680d7db5ac3ac"
        "18ff9b538d16f290ae67f760984dc6594a7c15e9716ed28dc027beceea1ec40a",
    ),
    (
        "ec172b93ad5e563bf4932c70e1245034c35467ef2efd4d64ebf819683467e2bf",
        hashlib.sha512(b"abc").hexdigest(),
        "dc2a4459e7369633a52b1bf277839a00201009a3efbf3ecb69bea2186c26b589"
        "09351fc9ac90b3ecfdfbc7c66431e0303dca179c138ac17ad9bef1177331a704",
    ),
]

# Wycheproof, ed25519_test.json: the key of its first groups, and signatures that are valid.
WYCHEPROOF_KEY = "7d4d0e7f6153a69b6242b522abbee685fda4420f8834b108c3bdae369ef549fa"
WYCHEPROOF_VALID = [
    (
        "",
        "d4fbdb52bfa726b44d1786a8c0d171c3e62ca83c9e5bbe63de0bb2483f8fd6cc"
        "1429ab72cafc41ab56af02ff8fcc43b99bfe4c7ae940f60f38ebaa9d311c4007",
    ),
    (
        "78",
        "d80737358ede548acb173ef7e0399f83392fe8125b2ce877de7975d8b726ef5b"
        "1e76632280ee38afad12125ea44b961bf92f1178c9fa819d020869975bcbe109",
    ),
    (
        "ffffffffffffffffffffffffffffffff",
        "5dbd7360e55aa38e855d6ad48c34bd35b7871628508906861a7c4776765ed7d1"
        "e13d910faabd689ec8618b78295c8ab8f0e19c8b4b43eb8685778499e943ae04",
    ),
]

SIGNER = Signer("fleet.example", bytes(range(32)))
KEY = SIGNER.verifier.public_key
MESSAGE = b"moorage channel 1\n"
GOOD = SIGNER.sign(MESSAGE)

_H = hashlib.sha512(SIGNER.seed).digest()
SECRET = (int.from_bytes(_H[:32], "little") & ((1 << 254) - 8)) | 1 << 254
# A point of order 8, made from any point of the curve by the group's order.
_ANY = next(p for p in (_decode(n.to_bytes(32, "little")) for n in range(2, 99)) if p)
ORDER_8 = _multiply(_L, _ANY)
SMALL_ORDER = [_encode(_multiply(n, ORDER_8)) for n in range(8)]


def little(number: int) -> bytes:
    return number.to_bytes(32, "little")


def forged(r: bytes, *, nonce: int, secret: int = SECRET, key: bytes = KEY) -> bytes:
    """Return a signature whose S fits this encoding of R, as a dishonest signer makes it."""
    digest = hashlib.sha512(r + key + MESSAGE).digest()
    return r + little((nonce + int.from_bytes(digest, "little") * secret) % _L)


@pytest.mark.parametrize(("key", "message", "signature"), RFC_8032)
def test_the_vectors_of_the_rfc(key: str, message: str, signature: str):
    sealed = bytes.fromhex(signature)
    assert verifies(bytes.fromhex(key), bytes.fromhex(message), sealed)
    assert not verifies(bytes.fromhex(key), bytes.fromhex(message) + b"!", sealed)


@pytest.mark.parametrize(("message", "signature"), WYCHEPROOF_VALID)
def test_valid_signatures_of_wycheproof(message: str, signature: str):
    key = bytes.fromhex(WYCHEPROOF_KEY)
    assert verifies(key, bytes.fromhex(message), bytes.fromhex(signature))


@pytest.mark.parametrize("s", [0, 1, _L - 1, _L, _P], ids=["0", "1", "l-1", "l", "p"])
@pytest.mark.parametrize("r", [0, 1, _L - 1, _L, _P], ids=["0", "1", "l-1", "l", "p"])
def test_wycheproofs_special_values_for_r_and_s_are_refused(r: int, s: int):
    assert not verifies(bytes.fromhex(WYCHEPROOF_KEY), b"?", little(r) + little(s))


def test_it_agrees_with_another_implementation():
    chance = random.Random(8032)
    for size in range(12):
        signer = Signer("any", chance.randbytes(32))
        message = chance.randbytes(size * 37)
        signature = signer.sign(message)
        assert verifies(signer.verifier.public_key, message, signature)
        place = chance.randrange(64)
        wrong = bytes(b ^ (i == place) << chance.randrange(8) for i, b in enumerate(signature))
        assert not verifies(signer.verifier.public_key, message, wrong)


def test_each_flipped_bit_of_key_and_signature_is_refused():
    for place in range(0, 64 * 8, 7):
        flipped = bytearray(GOOD)
        flipped[place // 8] ^= 1 << place % 8
        assert not verifies(KEY, MESSAGE, bytes(flipped))
    for place in range(0, 32 * 8, 7):
        flipped = bytearray(KEY)
        flipped[place // 8] ^= 1 << place % 8
        assert not verifies(bytes(flipped), MESSAGE, GOOD)


@pytest.mark.parametrize("length", [0, 1, 32, 63, 65, 96, 128])
def test_a_signature_of_another_length_is_refused(length: int):
    assert not verifies(KEY, MESSAGE, (GOOD * 2)[:length])


@pytest.mark.parametrize("length", [0, 31, 33, 64])
def test_a_key_of_another_length_is_refused(length: int):
    assert not verifies((KEY * 2)[:length], MESSAGE, GOOD)


@pytest.mark.parametrize("times", range(1, 15))
def test_a_malleable_s_is_refused(times: int):
    s = int.from_bytes(GOOD[32:], "little") + times * _L
    assert s < 2**256
    assert not verifies(KEY, MESSAGE, GOOD[:32] + little(s))


def test_the_forger_of_these_tests_can_forge():
    assert verifies(KEY, MESSAGE, forged(_encode(_multiply(77, _BASE)), nonce=77))


def test_an_r_of_small_order_that_fits_is_what_the_equation_says():
    # The neutral element, canonical: nonce 0. Go's crypto/ed25519 accepts it, too.
    assert verifies(KEY, MESSAGE, forged(SMALL_ORDER[0], nonce=0))
    # With the cofactor all of these would hold; without, only where the torsion is none.
    for r in SMALL_ORDER[1:]:
        assert not verifies(KEY, MESSAGE, forged(r, nonce=0))


NON_CANONICAL = {
    "the neutral element, y + p": little(_P + 1),
    "the neutral element with a sign": little(1 | 1 << 255),
    "y = 0 as p": little(_P),
    "-1 with a sign": little(_P - 1 | 1 << 255),
    "largest": b"\xff" * 32,
}


@pytest.mark.parametrize("name", NON_CANONICAL)
def test_a_non_canonical_r_is_refused_where_the_equation_would_hold(name: str):
    assert not verifies(KEY, MESSAGE, forged(NON_CANONICAL[name], nonce=0))


@pytest.mark.parametrize("key", [*SMALL_ORDER, *NON_CANONICAL.values()], ids=bytes.hex)
def test_a_key_of_small_order_or_non_canonical_form_is_none(key: bytes):
    assert not ed25519.is_public_key(key)
    # The forgery for which nobody needs a secret: R = S*B for the neutral key.
    r = _encode(_multiply(5, _BASE))
    assert not verifies(key, MESSAGE, r + little(5))


def test_there_are_eight_points_of_small_order():
    assert len(set(SMALL_ORDER)) == 8


def test_a_key_with_torsion_is_judged_without_the_cofactor():
    """An honest key has none; which answer is given must not depend on the implementation."""
    mixed = _encode(_add(_multiply(SECRET, _BASE), ORDER_8))
    answers = set()
    for nonce in range(1, 20):
        r = _encode(_multiply(nonce, _BASE))
        signature = forged(r, nonce=nonce, key=mixed)
        k = int.from_bytes(hashlib.sha512(r + mixed + MESSAGE).digest(), "little") % _L
        answers.add(verifies(mixed, MESSAGE, signature))
        assert verifies(mixed, MESSAGE, signature) == (k % 8 == 0)
    assert answers == {True, False}


def test_a_point_that_is_not_on_the_curve_is_no_key():
    off = [n for n in range(2, 40) if _decode(little(n)) is None]
    assert len(off) > 10
    assert not any(ed25519.is_public_key(little(n)) for n in off)
