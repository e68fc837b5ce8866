"""Recurrent networks as functions: one step, one direction of one layer, a stack of layers.

What a step computes stands in `graphc.functional.recurrent`; the state is (h,) for RNN and GRU,
(h, c) for LSTM.
"""

import graphc as torch
from graphc.functional.recurrent import cell, one_layer, step
from graphc.nn import functional as F

__all__ = [
    "gru_cell",
    "lstm_cell",
    "recurrent_layers",
    "rnn_relu_cell",
    "rnn_tanh_cell",
]


def rnn_tanh_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """Return the hyperbolic tangent of ``input @ w_ih.T + b_ih + hx @ w_hh.T + b_hh``."""
    return cell("RNN_TANH", input, (hx,), w_ih, b_ih, (w_hh, b_hh))[0]


def rnn_relu_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """Return ``relu(input @ w_ih.T + b_ih + hx @ w_hh.T + b_hh)``, of shape (N, hidden)."""
    return cell("RNN_RELU", input, (hx,), w_ih, b_ih, (w_hh, b_hh))[0]


def lstm_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """Return the next (h, c) of an LSTM, each of shape (N, hidden); gates in order i f g o."""
    return cell("LSTM", input, tuple(hx), w_ih, b_ih, (w_hh, b_hh))


def gru_cell(input, hx, w_ih, w_hh, b_ih=None, b_hh=None):
    """Return the next hidden state of a GRU, of shape (N, hidden); gates in order r z n."""
    return cell("GRU", input, (hx,), w_ih, b_ih, (w_hh, b_hh))[0]


def _run_packed(mode, gates, sizes, state, weights, reverse):
    """Run over packed gates (sum of sizes, G); step t has the first ``sizes[t]`` sequences.

    Forwards, sequences end one after the other and their states are set aside. Backwards, they
    begin one after the other from their initial states.
    """
    pieces = gates.split(sizes)
    initial = state
    outputs = []
    ended = []
    running = sizes[-1] if reverse else sizes[0]
    state = tuple(s[:running] for s in initial)
    for piece in reversed(pieces) if reverse else pieces:
        size = piece.size(0)
        if size < running:
            ended.append(tuple(s[size:] for s in state))
            state = tuple(s[:size] for s in state)
        elif size > running:
            begun = (s[running:size] for s in initial)
            state = tuple(torch.cat(pair) for pair in zip(state, begun, strict=True))
        running = size
        state = step(mode, piece, state, weights)
        outputs.append(state[0])
    if reverse:
        outputs.reverse()
    ended.append(state)
    last = tuple(torch.cat(parts) for parts in zip(*reversed(ended), strict=True))
    return torch.cat(outputs), last


def recurrent_layers(
    mode, input, state, weights, *, bidirectional=False, dropout=0.0, batch_sizes=None
):
    """Run a stack of recurrent layers.

    Args:
        mode: "RNN_TANH", "RNN_RELU", "LSTM" or "GRU".
        input: (T, N, features), or packed (sum of batch_sizes, features).
        state: a tuple of initial states (layers * directions, N, hidden): h, or h and c.
        weights: for each layer and direction (w_ih, w_hh, b_ih, b_hh[, w_hr]); biases may be None.
        bidirectional: whether each layer also runs backwards.
        dropout: probability of the dropout after all layers but the last.
        batch_sizes: numbers of sequences at each step of a packed input, as ints.

    Returns:
        The output, and a tuple of last states of the shapes of ``state``.
    """
    directions = 2 if bidirectional else 1
    layers = len(weights) // directions
    lasts = []
    for layer in range(layers):
        outputs = []
        for direction in range(directions):
            place = layer * directions + direction
            w_ih, w_hh, b_ih, b_hh, *projection = weights[place]
            gates = F.linear(input, w_ih, b_ih)
            initial = tuple(s[place] for s in state)
            recurrent = (w_hh, b_hh, *projection)
            reverse = direction == 1
            if batch_sizes is None:
                output, *last = one_layer(mode, gates, initial, recurrent, reverse)
            else:
                output, last = _run_packed(mode, gates, batch_sizes, initial, recurrent, reverse)
            outputs.append(output)
            lasts.append(last)
        input = outputs[0] if directions == 1 else torch.cat(outputs, dim=-1)
        if dropout > 0 and layer < layers - 1:
            input = F.dropout(input, dropout, True)
    return input, tuple(torch.stack(parts) for parts in zip(*lasts, strict=True))
