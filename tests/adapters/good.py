"""A correct adapter of a user's own: the scalar-loop Elman network, written as a newcomer would."""

import math
import os

import numpy as np

SUPPORTS = {
    "cells": ["elman"],
    "activations": ["tanh"],
    "readouts": ["none"],
    "losses": ["cotangent"],
    "truncations": ["full"],
    "dtypes": ["float64"],
    "lengths": False,
}


def gradients(problem, lost=0):
    """Loss, states and gradients; `lost` last steps are left out of dW_hh, for the mistakes below."""
    W_xh, W_hh, b_h = (problem.params[name] for name in ("W_xh", "W_hh", "b_h"))
    x, g = problem.x, problem.loss.g
    T, B, D = x.shape
    H = len(b_h)
    h = [problem.h0]
    for t in range(T):
        h.append(
            np.array(
                [
                    [math.tanh(sum(x[t, b] * W_xh[:, j]) + sum(h[t][b] * W_hh[:, j]) + b_h[j]) for j in range(H)]
                    for b in range(B)
                ]
            )
        )
    final = problem.loss.g_h_final
    carry = np.zeros((B, H)) if final is None else final.copy()
    out = {"dW_xh": np.zeros((D, H)), "dW_hh": np.zeros((H, H)), "db_h": np.zeros(H), "dx": np.zeros((T, B, D))}
    loss = float(np.sum(carry * h[T]))
    for t in range(T - 1, -1, -1):
        loss += float(np.sum(g[t] * h[t + 1]))
        delta = (carry + g[t]) * (1 - h[t + 1] ** 2)
        out["dW_xh"] += x[t].T @ delta
        if t < T - lost:
            out["dW_hh"] += h[t].T @ delta
        out["db_h"] += delta.sum(axis=0)
        out["dx"][t] = delta @ W_xh.T
        carry = delta @ W_hh.T
    return {"loss": loss, "h": np.stack(h[1:]), "o": np.stack(h[1:]), "dh0": carry, **out}


def loses_last_step(problem):
    """The weight gradient leaves out t = T."""
    return gradients(problem, lost=1)


def returns_nan(problem):
    """One NaN."""
    out = gradients(problem)
    out["db_h"][0] = np.nan
    return out


def wrong_shape(problem):
    """A bias gradient with an axis too many."""
    out = gradients(problem)
    return out | {"db_h": out["db_h"][None]}


def narrow_dtype(problem):
    """float32 where float64 was asked."""
    out = gradients(problem)
    return out | {"dW_hh": out["dW_hh"].astype(np.float32)}


def integers(problem):
    """Integers."""
    out = gradients(problem)
    return out | {"db_h": out["db_h"].astype(np.int64)}


def drops_a_key(problem):
    """dx is there for short sequences only."""
    out = gradients(problem)
    if len(problem.x) > 2:
        del out["dx"]
    return out


def declines_the_long(problem):
    """Supports a configuration for short sequences only, and does not declare it."""
    if len(problem.x) > 2:
        raise NotImplementedError("too long for me")
    return gradients(problem)


def changes_its_input(problem):
    """Doubles h0 in place, after use."""
    out = gradients(problem)
    problem.h0 *= 2
    return out


def raises(problem):
    """An exception of its own."""
    raise ZeroDivisionError("division by zero in the kernel")


def exits(problem):
    """Leaves the process."""
    raise SystemExit(7)


def declines_all(problem):
    """Supports nothing."""
    raise NotImplementedError("not written yet")


def claims_no_gradient(problem):
    """States only."""
    out = gradients(problem)
    return {"loss": out["loss"], "h": out["h"]}


def returns_none(problem):
    """Forgot to return."""
    gradients(problem)


claims_outputs = gradients


class _Exits:
    """An array type whose conversion leaves the process."""

    def __array__(self, dtype=None, copy=None):
        raise SystemExit(0)


class _Unprintable(BaseException):
    """An exception that is none of Exception's, and cannot be printed."""

    def __str__(self):
        raise RuntimeError("no words")


def exits_in_conversion(problem):
    """A gradient whose conversion to NumPy exits with status 0."""
    return gradients(problem) | {"dW_hh": _Exits()}


def raises_base_exception(problem):
    """Something that `except Exception` lets through."""
    raise _Unprintable


def changes_directory(problem):
    """Goes elsewhere and stays there."""
    os.chdir("/")
    return gradients(problem)


def offers_nothing(problem):
    """A cell without a truncation that it knows."""
    return gradients(problem)


offers_nothing.SUPPORTS = SUPPORTS | {"truncations": ["cec"]}
