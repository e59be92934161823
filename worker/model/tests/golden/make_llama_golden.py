"""Writes the golden folders under `llama/` beside it: tiny language models with random weights, saved by transformers.

    python make_llama_golden.py        (torch 2.11, transformers 5.24, safetensors)

Each folder holds `config.json`, `model.safetensors` (or shards with an index) and `case.safetensors`:

    ids [2, 24]      tokens
    logits [2, 24, V]  float32, eager attention
    prompt [8]       tokens
    greedy [64]      what follows the prompt greedily, with a KV cache and without a stop token
    greedy_margin [64]  the best logit minus the next best at each step: equal text is not luck

`config.json` has `rope_parameters`, as transformers 5 writes it; that of `sharded` is in the form of transformers 4
(`rope_theta`, `rope_scaling`, `torch_dtype`), as the folders on the hub mostly are. The weights of `sharded` are
bfloat16; its logits are those of the rounded weights, computed in float32.
"""

import copy
import json
import math
import shutil
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, LlamaConfig, Qwen2Config, Qwen3Config

HERE = Path(__file__).parent / "llama"
POSITIONS = 128
MARGIN = 1e-3
ROUNDING = 5e-6  # float32 logits are that close to float64's at least: a test to 1e-5 can pass
DISTINCT = 20  # greedy text with fewer different tokens says little

LLAMA3_ROPE = {
    "rope_type": "llama3", "rope_theta": 500000.0, "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 8.0,
    "original_max_position_embeddings": 64,
}  # fmt: skip


def plain_rope(theta):
    return {"rope_type": "default", "rope_theta": theta}


# Norm epsilons are larger than real ones, and all different, so that a wrong one shows.
CASES = {
    "llama": LlamaConfig(
        vocab_size=96, hidden_size=32, intermediate_size=40, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=4, rms_norm_eps=1e-2, rope_parameters=plain_rope(10000.0), tie_word_embeddings=False,
    ),
    "llama3": LlamaConfig(
        vocab_size=128, hidden_size=32, intermediate_size=44, num_hidden_layers=2, num_attention_heads=4, head_dim=16,
        num_key_value_heads=2, rms_norm_eps=2e-3, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=True,
    ),
    "qwen2": Qwen2Config(
        vocab_size=112, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, rms_norm_eps=5e-3, rope_parameters=plain_rope(1000000.0), tie_word_embeddings=True,
    ),
    "qwen3": Qwen3Config(
        vocab_size=96, hidden_size=24, intermediate_size=40, num_hidden_layers=3, num_attention_heads=4, head_dim=12,
        num_key_value_heads=2, rms_norm_eps=3e-3, rope_parameters=plain_rope(1000000.0), tie_word_embeddings=False,
    ),
    "smollm2": LlamaConfig(
        vocab_size=96, hidden_size=36, intermediate_size=48, num_hidden_layers=2, num_attention_heads=9,
        num_key_value_heads=3, rms_norm_eps=4e-3, rope_parameters=plain_rope(100000.0), tie_word_embeddings=True,
    ),
    "sharded": LlamaConfig(
        vocab_size=96, hidden_size=48, intermediate_size=64, num_hidden_layers=2, num_attention_heads=6, head_dim=16,
        num_key_value_heads=2, rms_norm_eps=6e-3, rope_parameters=LLAMA3_ROPE, tie_word_embeddings=False,
    ),
}  # fmt: skip


def network(config, seed, dtype):
    """Random weights of which every one counts: norms around 1, biases not 0, logits about one unit wide."""
    torch.manual_seed(seed)
    net = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            noise = torch.randn_like(parameter)
            if "norm" in name:
                parameter.copy_(1 + 0.2 * noise)
            elif name.endswith("bias"):
                parameter.copy_(0.3 * noise)
            elif "embed_tokens" in name or "lm_head" in name:
                parameter.copy_(0.15 * noise)
            else:
                parameter.copy_(1.3 * noise / math.sqrt(parameter.shape[1]))
            parameter.copy_(parameter.to(dtype))
    return net


@torch.no_grad()
def rounding(net, found):
    """How far float32 logits are from the same network's in float64."""
    torch.set_default_dtype(torch.float64)
    exact = copy.deepcopy(net).double()(found["ids"], use_cache=False).logits
    torch.set_default_dtype(torch.float32)
    return (exact - found["logits"]).abs().max()


@torch.no_grad()
def case(net):
    vocabulary = net.config.vocab_size
    ids = torch.randint(vocabulary, (2, 24))
    prompt = torch.randint(vocabulary, (8,))
    net.generation_config.eos_token_id = None
    answer = net.generate(
        prompt[None], attention_mask=torch.ones(1, 8, dtype=torch.int64), do_sample=False, max_new_tokens=64,
        pad_token_id=0, use_cache=True, return_dict_in_generate=True, output_logits=True,
    )  # fmt: skip
    best = torch.cat(answer.logits).topk(2).values
    whole = answer.sequences[0]
    uncached = net(whole[None, :-1], use_cache=False).logits[0, 7:].argmax(-1)
    assert torch.equal(uncached, whole[8:]), "greedy text depends on the cache"
    return {
        "ids": ids,
        "logits": net(ids, use_cache=False).logits.contiguous(),
        "prompt": prompt,
        "greedy": whole[8:].contiguous(),
        "greedy_margin": best[:, 0] - best[:, 1],
    }


def settled(config, dtype):
    """The network of the first seed whose greedy text has wide margins and is no short loop, and its case."""
    for seed in range(1000):
        net = network(config, seed, dtype)
        found = case(net)
        wide = found["greedy_margin"].min() > MARGIN and found["greedy"].unique().numel() >= DISTINCT
        if wide and rounding(net, found) < ROUNDING:
            return seed, net, found
    raise RuntimeError("no seed gives a telling case")


def all_regimes(config):
    """Whether the frequencies of a llama3 scaling are partly kept, partly divided and partly mixed."""
    rope = config.rope_parameters
    if rope["rope_type"] == "default":
        return True
    turns = rope["original_max_position_embeddings"] / (2 * math.pi)
    waves = [turns * rope["rope_theta"] ** (-i / config.head_dim) for i in range(0, config.head_dim, 2)]
    kinds = {(wave > rope["high_freq_factor"]) - (wave < rope["low_freq_factor"]) for wave in waves}
    return kinds == {-1, 0, 1}


def write_older_form(path):
    """The same config as transformers 4 wrote it."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["torch_dtype"] = config.pop("dtype")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope
    config["transformers_version"] = "4.45.0"
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


def write(name, config):
    folder = HERE / name
    shutil.rmtree(folder, ignore_errors=True)
    config.max_position_embeddings = POSITIONS
    config.bos_token_id, config.eos_token_id, config.pad_token_id = 1, 2, None
    assert all_regimes(config), name
    dtype = torch.bfloat16 if name == "sharded" else torch.float32
    seed, net, found = settled(config, dtype)
    net.to(dtype).save_pretrained(folder, max_shard_size="30KB" if name == "sharded" else "5GB")
    (folder / "generation_config.json").unlink()
    if name == "sharded":
        write_older_form(folder / "config.json")
    save_file(found, folder / "case.safetensors")

    read = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(read(found["ids"], use_cache=False).logits, found["logits"]), name
    size = sum(file.stat().st_size for file in folder.iterdir())
    print(
        f"{name}: seed {seed}, {len(list(folder.glob('model*.safetensors')))} weight files, {size / 1000:.0f} kB,",
        f"logits' deviation {found['logits'].std():.2f}, least margin {found['greedy_margin'].min():.4f},",
        f"{found['greedy'].unique().numel()} different tokens",
    )


def main():
    transformers.utils.logging.disable_progress_bar()
    print("torch", torch.__version__, "transformers", transformers.__version__)
    for name, config in CASES.items():
        write(name, config)


if __name__ == "__main__":
    main()
