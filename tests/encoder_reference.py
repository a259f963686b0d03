"""The int8 encoder in NumPy, step by step as docs/bundle.md describes it: what the kernels must compute."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import erf

from emotag.plugins.encoder import REACH, EncoderSizes

Float = NDArray[np.float32]
KERNELS = (10, 3, 3, 3, 3, 2, 2)


def quantise(x: Float, levels: int) -> tuple[NDArray[np.int64], Float, NDArray[np.int64]]:
    """Rows [R, K] as whole numbers, with the scale and the zero of each row."""
    low, high = np.minimum(x.min(1), 0), np.maximum(x.max(1), 0)
    scale = np.where(high - low > 1e-30, (high - low) / np.float32(levels), 1).astype(np.float32)
    zero = np.floor(np.minimum(-low / scale, levels) + np.float32(0.5))
    q = np.clip(np.rint(x.astype(np.float64) / scale[:, None] + zero[:, None]), 0, levels)
    return q.astype(np.int64), scale, zero.astype(np.int64)


def gelu(x: Float) -> Float:
    return (x * 0.5 * (1 + erf(x.astype(np.float64) / np.sqrt(2)))).astype(np.float32)


class Reference:
    """One encoder with its state. `step` takes a chunk of normalised samples [320·c]."""

    def __init__(self, sizes: EncoderSizes, tensors: Mapping[str, NDArray]) -> None:
        self.sizes, self.tensors = sizes, tensors
        self.tail = np.zeros(5, np.float32)
        self.remembered = {i: tensors[f"convolutions.{i}.silence"][None] for i in range(1, 5)}
        self.window = np.zeros((REACH + sizes.lookahead, sizes.hidden), np.float32)
        self.past: list[list[tuple[Float, Float]]] = [[] for _ in range(sizes.layers)]
        self.steps = 0

    def product(self, name: str, x: Float) -> Float:
        levels = int(self.tensors[f"{name}.levels"][0])
        return self._multiply(
            x, self.tensors[f"{name}.weight"], levels, self.tensors[f"{name}.scale"], self.tensors[f"{name}.bias"]
        )

    @staticmethod
    def _multiply(x: Float, weight: NDArray, levels: int, scale: Float, bias: Float) -> Float:
        q, row, zero = quantise(x, levels)
        sums = (q - zero[:, None]) @ weight.astype(np.int64).T
        return (sums * (row[:, None] * scale[None]) + bias).astype(np.float32)

    def norm(self, name: str, x: Float) -> Float:
        mean, variance = x.mean(-1, keepdims=True), x.var(-1, keepdims=True)
        y = (x - mean) / np.sqrt(variance + self.tensors[f"{name}.norm.epsilon"])
        return y * self.tensors[f"{name}.norm.weight"] + self.tensors[f"{name}.norm.bias"]

    def step(self, samples: Float) -> Float:
        sizes = self.sizes
        new = self._features(np.concatenate([self.tail, samples]))
        self.tail = samples[-5:]
        window = np.concatenate([self.window, new])
        self.window = window[sizes.chunk :]
        x = window[REACH:] + gelu(self._positions(window))
        x = x if sizes.pre_norm else self.norm("encoder", x)
        kept = self.steps * sizes.chunk >= sizes.lookahead
        for i in range(sizes.layers):
            x = self._layer(i, x, kept)
        self.steps += 1
        tokens = x[: sizes.chunk]
        return self.norm("encoder", tokens) if sizes.pre_norm else tokens

    def _features(self, joined: Float) -> Float:
        x = np.stack([joined[5 * i : 5 * i + 10] for i in range(len(joined) // 5 - 1)])
        x = self._activated(0, x @ self.tensors["convolutions.0.weight"].T + self.tensors["convolutions.0.bias"])
        for i in range(1, 7):
            before = self.remembered.get(i)
            rows = x if before is None else np.concatenate([before, x])
            if before is not None:
                self.remembered[i] = x[-1:]
            columns = np.stack([rows[2 * j : 2 * j + KERNELS[i]].reshape(-1) for j in range(len(x) // 2)])
            x = self._activated(i, self.product(f"convolutions.{i}", columns))
        return self.product("projection", self.norm("features", x))

    def _activated(self, i: int, x: Float) -> Float:
        return gelu(self.norm(f"convolutions.{i}", x) if self.sizes.conv_norm else x)

    def _positions(self, window: Float) -> Float:
        sizes, t = self.sizes, self.tensors
        groups, width = t["position.weight"].shape[:2]
        tokens = sizes.chunk + sizes.lookahead
        out = np.zeros((tokens, groups, width), np.float32)
        bias = t["position.bias"].reshape(groups, width)
        for g in range(groups):
            q, scale, zero = quantise(
                window[:, g * width : (g + 1) * width].reshape(1, -1), int(t["position.levels"][0])
            )
            seen = np.pad((q - zero).reshape(-1, width), ((0, sizes.taps), (0, 0)))
            rows = np.stack([seen[i : i + sizes.taps].reshape(-1) for i in range(tokens)])
            sums = rows @ t["position.weight"][g].astype(np.int64).T
            out[:, g] = sums * (scale * t["position.scale"][g]) + bias[g]
        return out.reshape(tokens, -1)

    def _layer(self, i: int, x: Float, kept: bool) -> Float:
        sizes, name = self.sizes, f"layers.{i}"
        answers = len(x) if i + 1 < sizes.layers else sizes.chunk
        heard = self.norm(name, x) if sizes.pre_norm else x
        query, key, value = (self.product(f"{name}.{part}", heard) for part in ("query", "key", "value"))
        query, key = self._turn(query), self._turn(key)
        mixed = self._attend(i, query[:answers], key, value)
        if kept:
            self.past[i] = (self.past[i] + list(zip(key, value, strict=True))[: sizes.chunk])[-sizes.context :]
        x = x[:answers] + self.product(f"{name}.out", mixed)
        fed = self.norm(f"{name}.final" if sizes.pre_norm else name, x)
        x = x if sizes.pre_norm else fed
        x = x + self.product(f"{name}.down", gelu(self.product(f"{name}.up", fed)))
        return x if sizes.pre_norm else self.norm(f"{name}.final", x)

    def _turn(self, x: Float) -> Float:
        """Pairs of channels of every head of tokens [n, H], by their position."""
        if "rotary.speeds" not in self.tensors:
            return x
        speeds = self.tensors["rotary.speeds"].astype(np.float64)
        angles = (self.steps * self.sizes.chunk + np.arange(len(x)))[:, None] * speeds
        heads = x.reshape(len(x), self.sizes.heads, -1).astype(np.float64)
        pairs = heads[..., 0 : 2 * len(speeds) : 2] + 1j * heads[..., 1 : 2 * len(speeds) : 2]
        pairs = pairs * np.exp(1j * angles)[:, None]
        heads[..., 0 : 2 * len(speeds) : 2], heads[..., 1 : 2 * len(speeds) : 2] = pairs.real, pairs.imag
        return heads.reshape(x.shape).astype(np.float32)

    def _attend(self, i: int, query: Float, key: Float, value: Float) -> Float:
        heads = self.sizes.heads
        keys = np.stack([k for k, _ in self.past[i]] + list(key)).reshape(-1, heads, key.shape[1] // heads)
        values = np.stack([v for _, v in self.past[i]] + list(value)).reshape(keys.shape)
        scores = np.einsum("qhd,khd->hqk", query.reshape(len(query), heads, -1), keys)
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        weights /= weights.sum(-1, keepdims=True)
        return np.einsum("hqk,khd->qhd", weights, values).reshape(len(query), -1).astype(np.float32)
