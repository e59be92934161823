"""Writes folders in the form of exported stitched language models, with what a reference of its own expects of them.

    python make_llm_export.py FOLDER        (torch 2.11, transformers 5.24, safetensors)

The anchors are the golden models in `worker/model/tests/golden/llama`, the stitching layers random. The reference runs
transformers' own decoder layers in a plain loop, without a cache; `check_llm_export.py` compares the modelling file with
it. `padded-*` have their attention filled up to one geometry by zeros, `adapter-*` are lone anchors with a peft adapter.
"""

import json
import math
import shutil
import sys
from pathlib import Path

import torch
import transformers
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import AutoModelForCausalLM, PreTrainedTokenizerFast

WORKER = Path(__file__).parent.parent
MODELLING = WORKER / "src/export/modeling_stitched.py"
GOLDEN = WORKER / "model/tests/golden/llama"
VOCABULARY = 96  # the least of the golden models

# Segments as (anchor, first block, blocks).
STITCHES = {
    "llama-qwen3": [("llama", 0, 2), ("qwen3", 1, 2)],
    "qwen2-llama3-sharded": [("qwen2", 0, 1), ("llama3", 1, 1), ("sharded", 0, 2)],
    "qwen3-smollm2-qwen3": [("qwen3", 0, 1), ("smollm2", 0, 2), ("qwen3", 2, 1)],
}
# The same made to one attention geometry by zeros: (groups, key heads, head width).
PADDED = {
    "padded-qwen3-sharded": ([("qwen3", 0, 2), ("sharded", 1, 1)], (3, 2, 16)),
    "padded-smollm2-llama": ([("smollm2", 0, 1), ("llama", 0, 2)], (3, 4, 8)),
}


def anchor(name):
    return AutoModelForCausalLM.from_pretrained(GOLDEN / name, attn_implementation="eager", dtype=torch.float32).eval()


def segment_config(name, first, blocks):
    """The keys of one segment, read from the anchor's config."""
    net, config = anchor(name), anchor(name).config
    rope = dict(config.rope_parameters)
    theta, kind = rope.pop("rope_theta"), rope["rope_type"]
    layer = net.model.layers[0]
    return {
        "anchor": name,
        "first_block": first,
        "num_hidden_layers": blocks,
        "hidden_size": config.hidden_size,
        "intermediate_size": config.intermediate_size,
        "num_attention_heads": config.num_attention_heads,
        "num_key_value_heads": config.num_key_value_heads,
        "head_dim": layer.self_attn.head_dim,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_theta": theta,
        "rope_scaling": None if kind == "default" else rope,
        "attention_bias": layer.self_attn.q_proj.bias is not None,
        "attention_output_bias": layer.self_attn.o_proj.bias is not None,
        "mlp_bias": layer.mlp.up_proj.bias is not None,
        "qk_norm": hasattr(layer.self_attn, "q_norm"),
    }


class Reference:
    """The stitched model as a loop over the anchors' own layers."""

    def __init__(self, path):
        self.path = path
        self.anchors = [anchor(name) for name, _, _ in path]
        widths = [net.config.hidden_size for net in self.anchors]
        self.stitch_layers = [torch.nn.Linear(here, there) for here, there in zip(widths, widths[1:])]
        for layer in self.stitch_layers:
            torch.nn.init.normal_(layer.weight, std=1 / math.sqrt(layer.in_features))
            torch.nn.init.normal_(layer.bias, std=0.3)

    @torch.no_grad()
    def logits(self, ids):
        length = ids.shape[1]
        mask = torch.full((length, length), -math.inf).triu(1)[None, None]
        positions = torch.arange(length)[None]
        x = self.anchors[0].model.embed_tokens(ids)
        for place, (net, (_, first, blocks)) in enumerate(zip(self.anchors, self.path)):
            if place > 0:
                x = self.stitch_layers[place - 1](x)
            rotation = net.model.rotary_emb(x, positions)
            for layer in net.model.layers[first : first + blocks]:
                x = layer(x, attention_mask=mask, position_embeddings=rotation, position_ids=positions)
        end = self.anchors[-1]
        return end.lm_head(end.model.norm(x))[..., :VOCABULARY]

    def tensors(self):
        """By the names of an export."""
        front, end = self.anchors[0], self.anchors[-1]
        found = {
            "model.embed_tokens.weight": front.model.embed_tokens.weight[:VOCABULARY],
            "model.norm.weight": end.model.norm.weight,
            "lm_head.weight": end.lm_head.weight[:VOCABULARY],
        }
        for number, layer in enumerate(self.stitch_layers):
            found |= {f"model.stitch_layers.{number}.{name}": tensor for name, tensor in layer.state_dict().items()}
        path = zip(self.anchors, self.path)
        layers = [layer for net, (_, first, blocks) in path for layer in net.model.layers[first : first + blocks]]
        for number, layer in enumerate(layers):
            found |= {f"model.layers.{number}.{name}": tensor for name, tensor in layer.state_dict().items()}
        return {name: tensor.detach().clone().contiguous() for name, tensor in found.items()}


def expected(logits):
    """Logits of two sequences, and 64 greedy tokens without a cache, their margins wide enough to be no luck."""
    ids = torch.randint(VOCABULARY, (2, 24))
    for _ in range(100):
        prompt = torch.randint(VOCABULARY, (8,))
        whole, margins = prompt, []
        for _ in range(64):
            best, index = logits(whole[None])[0, -1].topk(2)
            margins.append((best[0] - best[1]).item())
            whole = torch.cat([whole, index[:1]])
        if min(margins) > 1e-3:
            return {"ids": ids, "logits": logits(ids).contiguous(), "prompt": prompt, "greedy": whole[8:].contiguous()}
    raise RuntimeError("no prompt has wide margins")


def write(folder, segments, tensors, known):
    folder.mkdir(parents=True)
    shutil.copy(MODELLING, folder)
    config = {
        "architectures": ["StitchedForCausalLM"],
        "model_type": "stitched_llama",
        "auto_map": {
            "AutoConfig": "modeling_stitched.StitchedConfig",
            "AutoModel": "modeling_stitched.StitchedModel",
            "AutoModelForCausalLM": "modeling_stitched.StitchedForCausalLM",
        },
        "vocab_size": VOCABULARY,
        "tie_word_embeddings": False,
        "bos_token_id": 1,
        "eos_token_id": 2,
        "pad_token_id": None,
        "dtype": "float32",
        "torch_dtype": "float32",
        "max_position_embeddings": 128,
        "num_hidden_layers": sum(segment["num_hidden_layers"] for segment in segments),
        "hidden_size": segments[-1]["hidden_size"],
        "segments": segments,
        "esta": {"format": "esta-stitched-llm", "version": 1},
    }
    (folder / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    save_file(known, folder / "expected.safetensors")


def spread(tensor, heads, width, slots, to_heads, to_width, dim):
    """Heads along `dim` moved to `slots` of `to_heads` wider ones, zeros elsewhere; a head's halves stay halves."""
    tensor = tensor.movedim(dim, 0)
    rest = tensor.shape[1:]
    out = torch.zeros(to_heads, 2, to_width // 2, *rest)
    out[slots, :, : width // 2] = tensor.reshape(heads, 2, width // 2, *rest)
    return out.reshape(to_heads * to_width, *rest).movedim(0, dim).contiguous()


def pad_heads(segments, tensors, groups, key_heads, width):
    """The same model with every segment's attention in one geometry."""
    segments, tensors, block = [dict(segment) for segment in segments], dict(tensors), 0
    for segment in segments:
        heads, keys, old = (segment[key] for key in ("num_attention_heads", "num_key_value_heads", "head_dim"))
        segment["padded_heads"] = {"num_attention_heads": heads, "num_key_value_heads": keys, "head_dim": old}
        segment |= {"num_attention_heads": groups * key_heads, "num_key_value_heads": key_heads, "head_dim": width}
        own = heads // keys
        queries = [key * groups + place for key in range(keys) for place in range(own)]
        for number in range(block, block + segment["num_hidden_layers"]):
            prefix = f"model.layers.{number}.self_attn."
            for name in [name for name in tensors if name.startswith(prefix)]:
                part = name.removeprefix(prefix)
                if "norm" in part:
                    tensors[name] = spread(tensors[name], 1, old, [0], 1, width, 0) * math.sqrt(old / width)
                elif part[0] in "qo":
                    dim = 1 if part[0] == "o" else 0
                    tensors[name] = spread(tensors[name], heads, old, queries, groups * key_heads, width, dim)
                else:
                    tensors[name] = spread(tensors[name], keys, old, list(range(keys)), key_heads, width, 0)
        block += segment["num_hidden_layers"]
    return segments, tensors


def write_tokenizer(folder):
    """Characters as tokens: enough for tools that take text."""
    special = {"unk_token": "<unk>", "bos_token": "<s>", "eos_token": "</s>"}
    tokens = [*special.values(), *map(chr, range(ord(" "), ord(" ") + VOCABULARY - len(special)))]
    plain = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<unk>"))
    plain.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    plain.decoder = decoders.Fuse()
    PreTrainedTokenizerFast(tokenizer_object=plain, **special).save_pretrained(folder)


def write_adapter(folder, base, rank=4, alpha=8):
    """A lone anchor under an adapter in peft's form, with a bias of its own on every adapted layer."""
    net, tensors = anchor(base), {}
    for number, layer in enumerate(net.model.layers):
        for part in ("q_proj", "k_proj", "v_proj"):
            linear = getattr(layer.self_attn, part)
            a = torch.randn(rank, linear.in_features) / math.sqrt(linear.in_features)
            b, bias = 0.1 * torch.randn(linear.out_features, rank), 0.1 * torch.randn(linear.out_features)
            name = f"base_model.model.model.layers.{number}.self_attn.{part}"
            tensors |= {f"{name}.lora_A.weight": a, f"{name}.lora_B.weight": b, f"{name}.lora_B.bias": bias}
            merged = torch.nn.Linear(linear.in_features, linear.out_features)
            own = 0 if linear.bias is None else linear.bias
            merged.weight = torch.nn.Parameter(linear.weight + alpha / rank * b @ a)
            merged.bias = torch.nn.Parameter(own + alpha / rank * bias)
            setattr(layer.self_attn, part, merged)
    (folder / "adapter").mkdir(parents=True)
    config = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": f"../{base}",
        "r": rank,
        "lora_alpha": alpha,
        "lora_dropout": 0.0,
        "lora_bias": True,
        "bias": "none",
        "target_modules": ["q_proj", "k_proj", "v_proj"],
        "inference_mode": True,
    }
    (folder / "adapter/adapter_config.json").write_text(json.dumps(config, indent=2) + "\n")
    save_file(tensors, folder / "adapter/adapter_model.safetensors", metadata={"format": "pt"})
    shutil.copytree(GOLDEN / base, folder / "base", ignore=shutil.ignore_patterns("case.safetensors"))
    (folder / "peft.json").write_text(json.dumps({"base": "base", "adapter": "adapter"}) + "\n")
    with torch.no_grad():
        save_file(expected(lambda ids: net(ids, use_cache=False).logits), folder / "expected.safetensors")


def main():
    root = Path(sys.argv[1])
    shutil.rmtree(root, ignore_errors=True)
    transformers.utils.logging.disable_progress_bar()
    torch.manual_seed(0)
    with torch.no_grad():
        for name, path in STITCHES.items():
            net = Reference(path)
            write(root / name, [segment_config(*part) for part in path], net.tensors(), expected(net.logits))
            write_tokenizer(root / name)
        for name, (path, geometry) in PADDED.items():
            net = Reference(path)
            padded = pad_heads([segment_config(*part) for part in path], net.tensors(), *geometry)
            write(root / name, *padded, expected(net.logits))
        for base in ("qwen2", "qwen3"):
            write_adapter(root / f"adapter-{base}", base)
    print(f"wrote {', '.join(sorted(folder.name for folder in root.iterdir()))}")


if __name__ == "__main__":
    main()
