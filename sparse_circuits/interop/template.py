"""The text of an exported program, in pieces; `program.py` chooses among them and fills their places.

The program does in numpy and float64 what the transformer does under a circuit's taps, and folds into constants what does not
depend on the prompt: biases, what nodes outside the circuit give from their means, and what cut edges give from theirs.
"""

from string import Template

HEAD = Template('''\
"""$about

How to read it. A node is one channel of a site: `0.mlp.post_act[403]` is neuron 403 of layer 0. NODES lists the circuit's,
EDGES for each of them the weights that it reads other nodes with. All channels of a site compete (AbsTopK): as many as
SURVIVORS says keep their value, the others become zero. Then each channel outside NODES is put at its mean, at every position.
The .npz holds the rest: embedding, gains, means, what nodes give to rivals outside the circuit, and for each channel of a
site a constant: its bias, with what it hears from nodes that stand at their mean and through edges that are cut.
"""

import argparse
import math
import sys
from pathlib import Path

import numpy as np

D_VOCAB, N_CTX, N_HEADS, D_HEAD = $shape
EPS = $eps  # of the norms
SCALE, SHIFT = $calibration  # the calibration of the log odds
SURVIVORS = $survivors
NODES = $nodes
EDGES = $edges
$answers
$unembed
with np.load(Path(__file__).with_suffix(".npz")) as stored:
    CONSTANTS = dict(stored)

''')

SITES = Template('''
def hold(site, value):
    """Put every channel outside the circuit at its mean."""
    held = np.tile(CONSTANTS[f"{site} mean"], (len(value), 1))
    nodes = NODES.get(site, [])
    held[:, nodes] = value[:, nodes]
    return held


def settle(site, value):
    """Let the channels of a site compete, ties going to the lower channel; then hold what is outside the circuit."""
    kept = np.argsort(-np.abs(value), axis=1, kind="stable")[:, : SURVIVORS[site.split(".", 1)[1]]]
    survived = np.zeros_like(value)
    np.put_along_axis(survived, kept, np.take_along_axis(value, kept, axis=1), axis=1)
    return hold(site, survived)


def carry(source, value, target):
    """Return what each channel of the target site is given: by EDGES if it is a node, by the .npz if it is a rival."""
    if target not in NODES:
        return np.zeros((len(value), len(CONSTANTS[f"{target} mean"])))  # it will stand at its mean
    nodes = NODES.get(source, [])
    weights = CONSTANTS[f"{target} rivals"].copy()
    for row, channel in enumerate(nodes):
        for node in NODES[target]:
            weights[row, node] = EDGES.get(f"{target}[{node}]", {}).get(f"{source}[{channel}]", 0)
    return value[:, nodes] @ weights + CONSTANTS[f"{target} constant"]


def rms_norm(x):
    """Divide by the root mean square over channels."""
    return x / np.sqrt(np.mean(x * x, axis=1, keepdims=True) + EPS)


def read(site, stream):
    """Return what a sublayer reads: the normalised stream times gains$beside, thinned by competition."""
    if site not in NODES:
        return hold(site, stream)
    x = rms_norm(stream) * CONSTANTS[f"{site} gain"]
$positions    return settle(site, x)

''')

POSITIONS = """\
    positions = rms_norm(CONSTANTS["positions"][: len(x)]) * CONSTANTS[f"{site} position gain"]
    x = np.concatenate([x, positions], axis=1)
"""

ATTENTION = '''
def attention(layer, stream):
    """Return what a layer's heads write: a query q looks for keys k at positions up to its own, and fetches their v.

    Each head also looks at a sink, which takes its share of the attention and gives nothing for it.
    """
    act_in, *qkv, resid_delta = (f"{layer}.attn.{name}" for name in ("act_in", "q", "k", "v", "resid_delta"))
    x = read(act_in, stream)
    q, k, v = (settle(site, carry(act_in, x, site)).reshape(len(x), N_HEADS, D_HEAD) for site in qkv)
    scores = np.einsum("ihd,jhd->hij", q, k) / math.sqrt(D_HEAD)
    scores[:, np.triu(np.ones((len(x), len(x)), dtype=bool), k=1)] = -np.inf  # the future
    sink = CONSTANTS[f"{layer}.attn sink"].reshape(-1, 1, 1)
    largest = np.maximum(scores.max(axis=2, keepdims=True), sink)
    odds = np.exp(scores - largest)
    pattern = odds / (odds.sum(axis=2, keepdims=True) + np.exp(sink - largest))
    fetched = np.einsum("hij,jhd->ihd", pattern, v).reshape(len(x), N_HEADS * D_HEAD)
    held = pattern.sum(axis=2).T @ CONSTANTS[f"{resid_delta} heads"]  # of v outside the circuit, and of cut edges
    return settle(resid_delta, carry(qkv[2], fetched, resid_delta) + held)

'''

GELU = '''
def activation(x):
    """GELU: x times the probability that a standard normal number is smaller."""
    return x * 0.5 * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

'''

RELU = '''
def activation(x):
    """ReLU."""
    return np.maximum(x, 0)

'''

MLP = '''
def mlp(layer, stream):
    """Return what a layer's neurons write."""
    act_in, post_act, resid_delta = (f"{layer}.mlp.{name}" for name in ("act_in", "post_act", "resid_delta"))
    neurons = settle(post_act, activation(carry(act_in, read(act_in, stream), post_act)))
    return settle(resid_delta, carry(post_act, neurons, resid_delta))

'''

LOGITS_FROM_TEXT = Template('''
def logits(stream, token):
    """Return the logit of each token in UNEMBED, which hangs on the final nodes$bigram_about."""
    final = hold("final_resid", stream[-1:])
    rms = math.sqrt(np.mean(final * final) + EPS)
    found = {}
    for column, (answer, weights) in enumerate(UNEMBED.items()):
        total = sum(weight * final[0, channel] for channel, weight in weights.items())
        found[answer] = (total + CONSTANTS["unembed constant"][column]) / rms$bigram
    return found

''')

LOGITS_FROM_CONSTANTS = Template('''
def logits(stream, token):
    """Return the logits of all tokens that may be answers, which hang on the final nodes$bigram_about."""
    final = hold("final_resid", stream[-1:])
    rms = math.sqrt(np.mean(final * final) + EPS)
    total = final[0, NODES.get("final_resid", [])] @ CONSTANTS["unembed"] + CONSTANTS["unembed constant"]
    return dict(zip(CONSTANTS["tokens"].tolist(), total / rms$bigram))

''')

COMPETITORS = """\
    negative = negative or [token for token in range(D_VOCAB) if token not in positive]
"""

ANSWER = Template('''
def log_mass(found, tokens):
    """Return the log of the summed odds of some tokens."""
    values = np.array([found[token] for token in tokens])
    return values.max() + math.log(np.exp(values - values.max()).sum())


def answer(ids, positive=POSITIVE, negative=NEGATIVE):
    """Return the probability of the positive answer against $against."""
$competitors    if not positive or not negative:
        raise ValueError("The answers differ from prompt to prompt: give the token ids of the positive and the negative one.")
    if not 1 <= len(ids) <= N_CTX:
        raise ValueError(f"The prompt has {len(ids)} tokens: give 1 to {N_CTX}.")
    if outside := [token for token in ids if not 0 <= token < D_VOCAB]:
        raise ValueError(f"{outside[0]} is no token: give ids from 0 to {D_VOCAB - 1}.")
$walk
    found = logits(stream, ids[-1])
    if unknown := {*positive, *negative} - found.keys():
        raise ValueError(f"Token {min(unknown)} is no answer of this task: give one of {', '.join(map(str, list(found)[:8]))}.")
    margin = SCALE * (log_mass(found, positive) - log_mass(found, negative)) + SHIFT
    return 0.5 + 0.5 * math.tanh(0.5 * margin)


def main():
    parser = argparse.ArgumentParser(description="Print the probability that the circuit gives to the positive answer.")
    parser.add_argument("ids", type=int, nargs="+", help="token ids of the prompt, up to the answer")
    for side, default in (("positive", POSITIVE), ("negative", NEGATIVE)):
        parser.add_argument(f"--{side}", type=int, nargs="+", default=default, help=f"token ids of the {side} answer")
    options = parser.parse_args()
    try:
        print(answer(options.ids, options.positive, options.negative))
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
''')
