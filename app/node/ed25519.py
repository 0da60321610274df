"""Ed25519 signature checks in plain Python, after RFC 8032, section 5.1.

Only checking, never signing: no secret is ever here, so that running time may depend on the
input. About 3 ms for each check.

Stricter than the RFC demands: the cofactorless equation (as Go's crypto/ed25519 has it), only
canonical encodings of points and of S, and no public key of small order. An honest signer never
makes anything else.
"""

from __future__ import annotations

import hashlib

PUBLIC_KEY_BYTES = 32
SIGNATURE_BYTES = 64

_P = 2**255 - 19
_L = 2**252 + 27742317777372353535851937790883648493
"""The order of the base point."""
_D = -121665 * pow(121666, _P - 2, _P) % _P
_SQRT_MINUS_1 = pow(2, (_P - 1) // 4, _P)

# A point as extended homogeneous coordinates X, Y, Z, T: x = X/Z, y = Y/Z, xy = T/Z.
_Point = tuple[int, int, int, int]
_NEUTRAL: _Point = (0, 1, 1, 0)


def _add(p: _Point, q: _Point) -> _Point:
    """Return p + q; the formulas of section 5.1.4 are complete, and double as well."""
    a = (p[1] - p[0]) * (q[1] - q[0]) % _P
    b = (p[1] + p[0]) * (q[1] + q[0]) % _P
    c = 2 * p[3] * q[3] * _D % _P
    d = 2 * p[2] * q[2] % _P
    e, f, g, h = b - a, d - c, d + c, b + a
    return (e * f % _P, g * h % _P, f * g % _P, e * h % _P)


def _multiply(scalar: int, point: _Point) -> _Point:
    product = _NEUTRAL
    while scalar:
        if scalar & 1:
            product = _add(product, point)
        point = _add(point, point)
        scalar >>= 1
    return product


def _decode(encoded: bytes) -> _Point | None:
    """Return the point of 32 bytes (section 5.1.3); None if they are no canonical encoding."""
    number = int.from_bytes(encoded, "little")
    sign, y = number >> 255, number & ((1 << 255) - 1)
    if y >= _P:
        return None
    x_squared = (y * y - 1) * pow(_D * y * y + 1, _P - 2, _P) % _P
    x = pow(x_squared, (_P + 3) // 8, _P)
    if (x * x - x_squared) % _P:
        x = x * _SQRT_MINUS_1 % _P
    if (x * x - x_squared) % _P or (not x and sign):
        return None
    if x & 1 != sign:
        x = _P - x
    return (x, y, 1, x * y % _P)


def _encode(point: _Point) -> bytes:
    inverse = pow(point[2], _P - 2, _P)
    x, y = point[0] * inverse % _P, point[1] * inverse % _P
    return (y | (x & 1) << 255).to_bytes(32, "little")


def _is_small_order(point: _Point) -> bool:
    """Return whether 8 times the point is the neutral element."""
    return _encode(_multiply(8, point)) == _encode(_NEUTRAL)


_BASE = _decode((4 * pow(5, _P - 2, _P) % _P).to_bytes(32, "little")) or _NEUTRAL


def is_public_key(encoded: bytes) -> bool:
    """Return whether 32 bytes are a key that can be pinned: on the curve, canonical, not small."""
    if len(encoded) != PUBLIC_KEY_BYTES:
        return False
    point = _decode(encoded)
    return point is not None and not _is_small_order(point)


def verifies(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether the signature over message was made with public_key's secret half.

    Args:
        public_key: 32 bytes; another length, or a key that `is_public_key` refuses, gives False.
        message: the bytes as they were signed, not a hash of them.
        signature: R and S, 64 bytes; S at or above the group's order (malleable) gives False.
    """
    if len(signature) != SIGNATURE_BYTES or not is_public_key(public_key):
        return False
    point = _decode(public_key)
    r, s = signature[:32], int.from_bytes(signature[32:], "little")
    if point is None or s >= _L or _decode(r) is None:
        return False
    digest = hashlib.sha512(r + public_key + message).digest()
    k = int.from_bytes(digest, "little") % _L
    minus = (-point[0] % _P, point[1], point[2], -point[3] % _P)
    return _encode(_add(_multiply(s, _BASE), _multiply(k, minus))) == r
