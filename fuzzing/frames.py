"""Mutations of a conversation frame by frame, whose lengths stay true: a byte more would shift all that follows."""

from __future__ import annotations

from random import Random

from fuzzing.harness import Mutation

Frame = tuple[int, bytes | None, bytes]
"""First byte, mask or None, and payload, unmasked only if the mask is all zero."""

_FIRSTS = bytes((0x00, 0x01, 0x02, 0x80, 0x81, 0x82, 0x88, 0x89, 0x8A, 0x41, 0x42, 0xC1, 0xC2, 0xC0, 0x40))
_PAYLOADS = (b"", b"\x03\xe8", b"\xe2\x82", b"\xac", b"a" * 125, b"a" * 126, b"\xed\xa0", b"\xf4\x90", b"\x00")


def mutate_frames(data: bytes, random: Random, mutation: Mutation, *, prefix: int) -> bytes:
    """Change one frame or the order of them; one time in two any bytes instead.

    Args:
        data: ``prefix`` bytes that are no frames, then frames.
        random: Decides.
        mutation: For the bytes of a payload.
        prefix: See ``data``.
    """
    if random.random() < 0.5:
        return mutation(data)
    frames = split(data[prefix:])
    if not frames:
        return mutation(data)
    at = int(random.random() * len(frames))
    first, mask, payload = frames[at]
    choice = int(random.random() * 8)
    if choice < 3:
        frames[at] = first, mask, mutation(payload)
    elif choice == 3:
        frames[at] = random.choice(_FIRSTS), mask, payload
    elif choice == 4:
        frames.insert(at, (random.choice(_FIRSTS), mask, random.choice(_PAYLOADS)))
    elif choice == 5:
        half = int(random.random() * (len(payload) + 1))
        frames[at : at + 1] = [(first & 0x7F, mask, payload[:half]), (first & 0x80, mask, payload[half:])]
    elif choice == 6:
        del frames[at]
    else:
        frames.insert(int(random.random() * len(frames)), frames[at])
    return data[:prefix] + join(frames)


def split(data: bytes) -> list[Frame]:
    """The whole frames there are, whatever rules they break."""
    frames: list[Frame] = []
    at = 0
    while at + 2 <= len(data):
        size = data[at + 1] & 0x7F
        begin = at + 2 + {126: 2, 127: 8}.get(size, 0)
        if size > 125:
            size = int.from_bytes(data[at + 2 : begin], "big")
        mask = None
        if data[at + 1] & 0x80:
            mask = data[begin : begin + 4]
            begin += 4
        frames.append((data[at], mask, data[begin : begin + size]))
        at = begin + size
    return frames


def join(frames: list[Frame]) -> bytes:
    """The bytes of frames, each length in its shortest form."""
    parts = []
    for first, mask, payload in frames:
        size = len(payload)
        masked = 0 if mask is None else 0x80
        parts.append(
            bytes((first, masked | size)) if size < 126 else bytes((first, masked | 126, size >> 8 & 0xFF, size & 0xFF))
        )
        parts.append(mask or b"")
        parts.append(payload)
    return b"".join(parts)
