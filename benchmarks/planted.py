"""A world in which the rank that is needed is known: 12 by construction, so 4 is too small and 16 is enough.

In: a folder and a seed. Out: a language model, its questions as JSONL, and a study's dict. Knows nothing about how runs
are trained, scored or compared: rankscope does all of that, as for any other model and data.

A question is eight random words and the name of one of ``RANK`` scales; its answer is the high or the low end of that
scale. The model is a Llama of one layer with weights set by hand: attention takes the mean x of the words' vectors, the
MLP passes x on, and ``down_proj`` may write to one direction per scale, whose sign decides between the scale's ends.
What the MLP sees says nothing about which scale is asked, so an update of ``down_proj`` is a table of read-outs: a row
m_k per scale, and the answer is the sign of m_k . x. The truth is a table of orthonormal rows u_k. The model itself has
zeros there and guesses. What makes it the teacher is thus an update of rank ``RANK`` with equal singular values.

The rows of an update of rank r lie in r dimensions, so the squared cosines t_k of m_k and u_k add up to at most r
(Eckart and Young 1936). For normal x, the share of right answers is the mean of 1/2 + arcsin(sqrt(t_k)) / pi (Sheppard
1899): at most ``ceiling(r)``, 71 % for rank 4. The words' vectors are orthogonal bases and their opposites, so x has
mean zero, equal variance in every direction, and is close to normal. Further scales are known to the untouched model
by read-outs of its own: they show what is retained.

Legend: W words, C content, K scales (new, then known), I inputs of down_proj, D hidden.
"""

import json
import math
from itertools import product
from pathlib import Path

import numpy as np
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

RANK = 12
"""The rank of the update that answers everything."""
TOO_SMALL, ENOUGH = 4, 16
"""Ranks of the study known to be too small, and to be enough."""
RANKS = (1, 2, 4, 8, 16, 32)
TASK = "scales"
NUM_KNOWN = 4
NUM_SCALES = RANK + NUM_KNOWN
WORDS = 8
"""Words of a question."""
CONTENT, INPUTS, HIDDEN = 24, 48, 96
SIZES = {"train": 9600, "test": 600, "known": 500}
CLEAR = 0.5
"""The smallest read-out of a question about a known scale; its standard deviation is sqrt(8 / 24) = 0.58."""
SPECIAL = ("<pad>", "<eos>", "<unk>")
_STARTS, _ENDS = "ba di fo gu ke lo mi nu pa ro", "bel dan fir gos hul jam kep lin mor nat"

# What lies where in the hidden state: a word's vector, the mean of the words, the scale asked for, an answer per scale,
# a constant, and whether the answer has been given.
WORD, MEAN = slice(0, CONTENT), slice(CONTENT, 2 * CONTENT)
ASKED = slice(2 * CONTENT, 2 * CONTENT + NUM_SCALES)
ANSWER = slice(ASKED.stop, ASKED.stop + NUM_SCALES)
ONE, DONE = ANSWER.stop, ANSWER.stop + 1


class World:
    """The vectors of a seed: ``words`` (W, C), read-outs ``scales`` (K, C), and ``frame`` (I, C) into down_proj."""

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng([seed, 0])
        bases = [_orthonormal(rng, CONTENT, CONTENT) for _ in range(2)]
        self.seed = seed
        self.words = np.concatenate([sign * basis for basis in bases for sign in (1, -1)])
        self.scales = _orthonormal(rng, CONTENT, CONTENT)[:NUM_SCALES]
        self.frame = _orthonormal(rng, INPUTS, CONTENT)
        self.names = [a + b for a, b in product(_STARTS.split(), _ENDS.split())][: len(self.words)]

    def rows(self, split: str) -> list[dict]:
        """The questions of ``train``, ``test`` or ``known``: as many for each scale, no question twice."""
        rng = np.random.default_rng([self.seed, 1])
        taken, made = set(), {}
        for name, size in SIZES.items():
            scales = range(RANK, NUM_SCALES) if name == "known" else range(RANK)
            rows = made[name] = []
            while len(rows) < size:
                words = rng.integers(len(self.words), size=WORDS)
                if (key := tuple(sorted(words))) in taken:
                    continue
                taken.add(key)
                scale = scales[len(rows) % len(scales)]
                read = self.scales[scale] @ self.words[words].sum(0)
                if name == "known" and abs(read) < CLEAR:
                    continue
                ends = [f"hi{scale:02d}", f"lo{scale:02d}"]
                rows.append({
                    "id": f"{name}-{len(rows):04d}",
                    "prompt": " ".join([*(self.names[w] for w in words), f"on{scale:02d}"]),
                    "subject": f"on{scale:02d}", "choices": ends[::-1] if rng.integers(2) else ends,
                    "answer": ends[int(read < 0)],
                })  # fmt: skip
        return made[split]

    def update(self) -> torch.Tensor:
        """What makes the model the teacher: added to ``down_proj`` (D, I), of rank ``RANK``, equal singular values."""
        delta = torch.zeros(HIDDEN, INPUTS)
        delta[ANSWER][:RANK] = _tensor(self.scales[:RANK] @ self.frame.T)
        return delta

    def model(self) -> LlamaForCausalLM:
        """The untouched model: it has learned the known scales, and guesses on the others."""
        config = LlamaConfig(
            vocab_size=len(self.vocabulary()), hidden_size=HIDDEN, intermediate_size=INPUTS, num_hidden_layers=1,
            num_attention_heads=4, num_key_value_heads=4, max_position_embeddings=64, tie_word_embeddings=False,
            pad_token_id=0, bos_token_id=None, eos_token_id=1,
        )  # fmt: skip
        model = LlamaForCausalLM(config).eval()
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "norm" not in name:
                    parameter.zero_()
            self._set_tokens(model.model.embed_tokens.weight, model.lm_head.weight)
            self._set_layer(model.model.layers[0])
        return model

    def _set_tokens(self, embedding: torch.Tensor, head: torch.Tensor) -> None:
        """Both (V, D). The scale asked for makes its two ends likely, and its answer's sign decides between them."""
        first = len(SPECIAL) + len(self.words)
        embedding[:, ONE] = 1.0
        embedding[len(SPECIAL) : first, WORD] = _tensor(self.words)
        for scale in range(NUM_SCALES):
            asked, high, low = range(first + 3 * scale, first + 3 * scale + 3)
            embedding[asked, ASKED.start + scale] = 1.0
            embedding[[high, low], DONE] = 1.0
            head[[high, low], ASKED.start + scale] = 10.0
            head[high, ANSWER.start + scale], head[low, ANSWER.start + scale] = 1.0, -1.0
        head[SPECIAL.index("<eos>"), DONE] = 10.0

    def _set_layer(self, layer: torch.nn.Module) -> None:
        """Queries and keys stay zero, so that every position sees the mean of all before it; the gate is a constant."""
        layer.self_attn.v_proj.weight[:CONTENT, WORD] = torch.eye(CONTENT) / math.sqrt(HIDDEN / 2)
        layer.self_attn.o_proj.weight[MEAN, :CONTENT] = torch.eye(CONTENT) * (WORDS + 1) / math.sqrt(WORDS)
        layer.mlp.gate_proj.weight[:, ONE] = 0.4
        layer.mlp.up_proj.weight[:, MEAN] = 0.2 * _tensor(self.frame)
        layer.mlp.down_proj.weight[ANSWER][RANK:] = 4.0 * _tensor(self.scales[RANK:] @ self.frame.T)

    def vocabulary(self) -> list[str]:
        """All tokens in the order of their ids."""
        scales = [f"{end}{scale:02d}" for scale in range(NUM_SCALES) for end in ("on", "hi", "lo")]
        return [*SPECIAL, *self.names, *scales]

    def tokenizer(self) -> PreTrainedTokenizerFast:
        """One token a word."""
        ids = {token: i for i, token in enumerate(self.vocabulary())}
        inner = Tokenizer(models.WordLevel(ids, unk_token="<unk>"))
        inner.pre_tokenizer = pre_tokenizers.Whitespace()
        return PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>",
                                       clean_up_tokenization_spaces=False, model_max_length=64)  # fmt: skip


def ceiling(rank: int) -> float:
    """The largest share of right answers that any update of this rank can reach on the new scales, for normal x.

    The mean over scales of f(t) = 1/2 + arcsin(sqrt t) / pi with the t adding up to ``rank``, each at most 1: the least
    concave function above f, at rank / ``RANK``. f is concave up to 1/2 and convex beyond, so that function is f up to
    the point from which a straight line to f(1) = 1 lies above f, and that line beyond.
    """
    share = min(rank / RANK, 1.0)
    grid = np.linspace(1e-6, 0.5, 100_001)
    f = 0.5 + np.arcsin(np.sqrt(grid)) / math.pi
    start = int(np.argmin((1 - f) / (1 - grid)))
    if share <= grid[start]:
        return 0.5 + math.asin(math.sqrt(share)) / math.pi
    return float(1 - (1 - share) * (1 - f[start]) / (1 - grid[start]))


def build(folder: Path, seed: int = 0) -> dict:
    """Write the world of a seed (what is there already stays) and return its study."""
    world = World(seed)
    folder.mkdir(parents=True, exist_ok=True)
    for split in SIZES:
        text = "".join(json.dumps(row) + "\n" for row in world.rows(split))
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    world.model().save_pretrained(folder / "model")
    world.tokenizer().save_pretrained(folder / "model")
    return {
        "name": "planted",
        "title": "A world that needs rank 12",
        "models": [{"id": str(folder / "model"), "dtype": "float32", "label": "planted"}],
        "train": [{"task": "data", "train": str(folder / "train.jsonl"), "test": str(folder / "test.jsonl"),
                   "name": TASK}],
        "arms": ["base", {"lora": {"rank": list(RANKS), "alpha": 32, "targets": ["down_proj"], "lr": 1e-2}}],
        "training": {"max_steps": 150, "batch_tokens": 1024, "seeds": [0, 1, 2]},
        "evaluate": {"cross_domain": "none",
                     "retention": [{"task": "data", "test": str(folder / "known.jsonl"), "name": "known_scales"}]},
    }  # fmt: skip


def _orthonormal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """Orthonormal columns, drawn evenly."""
    q, r = np.linalg.qr(rng.standard_normal((rows, columns)))
    return q * np.sign(np.diag(r))


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(array)).float()
