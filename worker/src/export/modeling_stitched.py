"""Stitched language models exported by ESTA, for `transformers` 4.56 or later with `trust_remote_code=True`.

    model = AutoModelForCausalLM.from_pretrained("stitch-12", trust_remote_code=True)
    model = load_bundle("bundle"); model.set_budget(9e9)  # all stitches of a run; at most so many parameters

A stitched model is a path through language models of the LLaMA type, its anchors: the embeddings and the first blocks
of one, a linear stitching layer to another width, later blocks of another, and that one's norm and head. A segment is
the stretch of one anchor; it keeps the anchor's own heads, norm epsilon and rotary embedding (`config.segments`).
Blocks are numbered in the order in which they run, and that number is also a block's place in the KV cache.

vLLM's transformers backend keeps one attention geometry for all blocks: models whose anchors differ in it run there
only after an export with `--pad-heads`, which fills heads up with zeros (a segment's `padded_heads` has the geometry
without them).

Shapes: B sequences, N tokens, D width, H heads, d their width, V vocabulary.
"""

import inspect
import json
import math
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file
from torch import nn
from transformers import DynamicCache, GenerationConfig, GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.activations import ACT2FN
from transformers.masking_utils import create_causal_mask
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS
from transformers.utils import can_return_tuple

MASK_ARGUMENTS = inspect.signature(create_causal_mask).parameters
CACHE = "cache" if "cache" in MASK_ARGUMENTS else "past_key_values"  # transformers renamed it
GEOMETRY = ("num_attention_heads", "num_key_value_heads", "head_dim")


class StitchedConfig(PretrainedConfig):
    """`segments` in the order in which they run; what tools look for at the top is derived from them."""

    model_type = "stitched_llama"
    keys_to_ignore_at_inference = ["cache", "past_key_values"]
    base_model_tp_plan = {
        **{f"layers.*.self_attn.{name}_proj": "colwise" for name in "qkv"},
        **{f"layers.*.mlp.{name}_proj": "colwise" for name in ("gate", "up")},
        **{f"layers.*.{name}_proj": "rowwise" for name in ("self_attn.o", "mlp.down")},
    }

    def __init__(self, segments=(), use_cache=True, **kwargs):
        self.segments, self.use_cache = list(segments), use_cache
        if kwargs.setdefault("tie_word_embeddings", False):
            raise ValueError("a stitched model's embeddings and head come from different anchors: they are never tied")
        if self.segments:
            front, end = self.segments[0], self.segments[-1]
            kwargs.update({key: end[key] for key in ("hidden_size", *GEOMETRY)})
            kwargs["embedding_size"] = front["hidden_size"]
            kwargs["num_hidden_layers"] = sum(segment["num_hidden_layers"] for segment in self.segments)
        super().__init__(**kwargs)


class RMSNorm(nn.Module):
    """x / rms(x) in float32, times a weight."""

    def __init__(self, width, eps):
        super().__init__()
        self.weight, self.eps = nn.Parameter(torch.ones(width)), eps

    def forward(self, x):
        y = x.float()
        y = y * torch.rsqrt(y.pow(2).mean(-1, keepdim=True) + self.eps)
        return self.weight * y.to(x.dtype)


def rotary_angles(segment, position_ids):
    """The angles by which a segment's heads are turned at each position: [B, N, d / 2], float32"""
    width = unpadded_head_dim(segment)
    steps = torch.arange(0, width, 2, dtype=torch.float32, device=position_ids.device) / width
    frequencies = scaled_frequencies(1.0 / segment["rope_theta"] ** steps, segment.get("rope_scaling"))
    frequencies = F.pad(frequencies, (0, (segment["head_dim"] - width) // 2))
    return position_ids[..., None].float() * frequencies


def scaled_frequencies(frequencies, scaling):
    kind = "default" if scaling is None else scaling["rope_type"]
    if kind == "default":
        return frequencies
    if kind == "linear":
        return frequencies / scaling["factor"]
    if kind != "llama3":
        raise ValueError(f"rope_scaling {kind!r} is not known to stitched models")
    # High frequencies stay, low ones are divided, those between are mixed by their turns over the original context.
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    turns = scaling["original_max_position_embeddings"] * frequencies / (2 * math.pi)
    kept = ((turns - low) / (high - low)).clamp(0, 1)
    return (1 - kept) * frequencies / scaling["factor"] + kept * frequencies


def unpadded_head_dim(segment):
    return (segment.get("padded_heads") or segment)["head_dim"]


def turned(x, cos, sin):
    """Each pair (i, i + d / 2) of [B, H, N, d] turned by its angle."""
    first, second = x.chunk(2, dim=-1)
    return torch.cat([first * cos - second * sin, second * cos + first * sin], dim=-1)


def eager_attention(module, query, key, value, attention_mask, scaling, **kwargs):
    """[B, H, N, d] -> [B, N, H, d] and the weights; query heads share the key and value head of their group."""
    key, value = (x.repeat_interleave(module.num_key_value_groups, dim=1) for x in (key, value))
    weights = query @ key.transpose(2, 3) * scaling
    if attention_mask is not None:
        weights = weights + attention_mask
    weights = weights.softmax(-1, dtype=torch.float32).to(query.dtype)
    return (weights @ value).transpose(1, 2).contiguous(), weights


class Attention(nn.Module):
    is_causal = True

    def __init__(self, config, segment, layer_idx):
        super().__init__()
        width, (heads, key_heads, self.head_dim) = segment["hidden_size"], (segment[key] for key in GEOMETRY)
        self.config, self.layer_idx, self.num_key_value_groups = config, layer_idx, heads // key_heads
        unpadded = unpadded_head_dim(segment)
        self.scaling = unpadded**-0.5
        bias = segment["attention_bias"]
        self.q_proj = nn.Linear(width, heads * self.head_dim, bias=bias)
        self.k_proj = nn.Linear(width, key_heads * self.head_dim, bias=bias)
        self.v_proj = nn.Linear(width, key_heads * self.head_dim, bias=bias)
        self.o_proj = nn.Linear(heads * self.head_dim, width, bias=segment["attention_output_bias"])
        # Zeros in a padded head lower its mean square: so is epsilon, and the exported weights make up for both.
        eps = segment["rms_norm_eps"] * unpadded / self.head_dim
        self.q_norm = RMSNorm(self.head_dim, eps) if segment["qk_norm"] else nn.Identity()
        self.k_norm = RMSNorm(self.head_dim, eps) if segment["qk_norm"] else nn.Identity()

    def forward(self, x, rotation, attention_mask=None, cache=None, **kwargs):
        shape = (*x.shape[:-1], -1, self.head_dim)
        query = turned(self.q_norm(self.q_proj(x).view(shape)).transpose(1, 2), *rotation)
        key = turned(self.k_norm(self.k_proj(x).view(shape)).transpose(1, 2), *rotation)
        value = self.v_proj(x).view(shape).transpose(1, 2)
        if cache is not None:
            key, value = cache.update(key, value, self.layer_idx)
        kind = self.config._attn_implementation
        attend = eager_attention if kind == "eager" else ALL_ATTENTION_FUNCTIONS[kind]
        y, _ = attend(self, query, key, value, attention_mask, scaling=self.scaling, **kwargs)
        return self.o_proj(y.reshape(*x.shape[:-1], -1))


class MLP(nn.Module):
    def __init__(self, segment):
        super().__init__()
        width, hidden, bias = segment["hidden_size"], segment["intermediate_size"], segment["mlp_bias"]
        self.gate_proj = nn.Linear(width, hidden, bias=bias)
        self.up_proj = nn.Linear(width, hidden, bias=bias)
        self.down_proj = nn.Linear(hidden, width, bias=bias)
        self.act_fn = ACT2FN["silu"]

    def forward(self, x):
        return self.down_proj(self.act_fn(self.gate_proj(x)) * self.up_proj(x))


class StitchedBlock(nn.Module):
    """x + attention(norm(x)), then x + mlp(norm(x))"""

    def __init__(self, config, segment, layer_idx):
        super().__init__()
        self.self_attn = Attention(config, segment, layer_idx)
        self.mlp = MLP(segment)
        self.input_layernorm = RMSNorm(segment["hidden_size"], segment["rms_norm_eps"])
        self.post_attention_layernorm = RMSNorm(segment["hidden_size"], segment["rms_norm_eps"])

    def forward(self, x, **kwargs):
        x = x + self.self_attn(self.input_layernorm(x), **kwargs)
        return x + self.mlp(self.post_attention_layernorm(x))


class StitchedPreTrainedModel(PreTrainedModel):
    config_class = StitchedConfig
    base_model_prefix = "model"
    _no_split_modules = ["StitchedBlock"]
    _supports_attention_backend = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True


class StitchedModel(StitchedPreTrainedModel):
    """[B, N] tokens -> [B, N, D] after the last segment's norm"""

    def __init__(self, config):
        super().__init__(config)
        segments = config.segments
        if config._attn_implementation == "vllm" and len({tuple(map(s.get, GEOMETRY)) for s in segments}) > 1:
            raise ValueError("vLLM needs one attention geometry in all blocks: export this stitch with --pad-heads")
        widths = [segment["hidden_size"] for segment in segments]
        self.embed_tokens = nn.Embedding(getattr(config, "embedding_vocab_size", None) or config.vocab_size, widths[0])
        blocks = [segment for segment in segments for _ in range(segment["num_hidden_layers"])]
        self.layers = nn.ModuleList(StitchedBlock(config, segment, number) for number, segment in enumerate(blocks))
        self.stitch_layers = nn.ModuleList(nn.Linear(here, there) for here, there in zip(widths, widths[1:]))
        self.norm = RMSNorm(widths[-1], segments[-1]["rms_norm_eps"])
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, cache=None, past_key_values=None,
        inputs_embeds=None, use_cache=None, cache_position=None, **kwargs,
    ):  # fmt: skip
        if (input_ids is None) == (inputs_embeds is None):
            raise ValueError("give either input_ids or inputs_embeds")
        x = self.embed_tokens(input_ids) if inputs_embeds is None else inputs_embeds
        cache = past_key_values if cache is None else cache
        if cache is None and (self.config.use_cache if use_cache is None else use_cache):
            cache = DynamicCache(config=self.config)
        if cache_position is None:
            seen = 0 if cache is None else cache.get_seq_length()
            cache_position = torch.arange(seen, seen + x.shape[1], device=x.device)
        position_ids = cache_position[None] if position_ids is None else position_ids
        shared = {
            "attention_mask": self.causal_mask(x, attention_mask, cache, cache_position, position_ids),
            "position_ids": position_ids, "cache": cache, **kwargs,
        }  # fmt: skip
        blocks = iter(self.layers)
        for place, segment in enumerate(self.config.segments):
            x = self.stitch_layers[place - 1](x) if place > 0 else x
            angles = rotary_angles(segment, position_ids)[:, None]
            rotation = angles.cos().to(x.dtype), angles.sin().to(x.dtype)
            for _ in range(segment["num_hidden_layers"]):
                x = next(blocks)(x, rotation=rotation, **shared)
        return BaseModelOutputWithPast(last_hidden_state=self.norm(x), **{CACHE: cache})

    def causal_mask(self, x, attention_mask, cache, cache_position, position_ids):
        given = {
            "config": self.config, "inputs_embeds": x, "input_embeds": x, "attention_mask": attention_mask,
            CACHE: cache, "cache_position": cache_position, "position_ids": position_ids,
        }  # fmt: skip
        return create_causal_mask(**{name: value for name, value in given.items() if name in MASK_ARGUMENTS})


class StitchedForCausalLM(StitchedPreTrainedModel, GenerationMixin):
    def __init__(self, config):
        super().__init__(config)
        self.model = StitchedModel(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    @can_return_tuple
    def forward(
        self, input_ids=None, attention_mask=None, position_ids=None, cache=None, past_key_values=None,
        inputs_embeds=None, labels=None, use_cache=None, logits_to_keep=0, **kwargs,
    ):  # fmt: skip
        """`logits_to_keep`: only so many last positions (0: all), or the positions themselves."""
        outputs = self.model(
            input_ids, attention_mask, position_ids, past_key_values if cache is None else cache,
            inputs_embeds=inputs_embeds, use_cache=use_cache, return_dict=True, **kwargs,
        )  # fmt: skip
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(logits=logits, labels=labels, vocab_size=self.config.vocab_size, **kwargs)
        return CausalLMOutputWithPast(loss=loss, logits=logits, **{CACHE: outputs[CACHE]} if CACHE in outputs else {})


class AdaptedLinear(nn.Module):
    """W x + b, and what parameter-efficient stitch fine-tuning adds: scale B A x + b_stitch. Stitches share all but that."""

    def __init__(self, scale, parameters):
        super().__init__()
        self.scale = scale
        for name in ("weight", "bias", "lora_A", "lora_B", "own_bias"):
            self.register_parameter(name, parameters.get(name))

    def forward(self, x):
        y = F.linear(x, self.weight, self.bias)
        if self.lora_A is not None:
            y = y + self.scale * F.linear(F.linear(x, self.lora_A), self.lora_B)
        return y if self.own_bias is None else y + self.own_bias


class StitchedBundle(StitchedForCausalLM):
    """All stitches of a run over one set of parameters: the one that is set answers. Not for saving, nor for training."""

    def __init__(self, bundle, tensors, **options):
        largest = max(bundle["stitches"], key=lambda stitch: stitch["params"])
        super(StitchedForCausalLM, self).__init__(path_config(bundle, largest, options))
        self.bundle, self.options = bundle, options
        self.catalog = {stitch["id"]: stitch for stitch in bundle["stitches"]}
        # By the run's names, with slashes: a module's names have no dots.
        shared = {name.replace(".", "/"): nn.Parameter(x, requires_grad=False) for name, x in tensors.items()}
        self.shared = nn.ParameterDict(shared)
        self.set_stitch(largest["id"])

    def set_stitch(self, number):
        """Runs this stitch from now on; returns its entry in the catalog. A KV cache of another is of no use to it."""
        if number not in self.catalog:
            raise ValueError(f"the bundle has no stitch {number}")
        self.stitch = self.catalog[number]
        with torch.device("meta"):
            path = StitchedForCausalLM(path_config(self.bundle, self.stitch, self.options))
        for name, shared, own in self.places():
            for inner, _ in list(path.get_submodule(name).named_modules()):
                self.fill(path, *(".".join(filter(None, (prefix, inner))) for prefix in (name, shared, own)))
        self.config, self.model, self.lm_head = path.config, path.model, path.lm_head
        return self.stitch

    def set_budget(self, params, rule=None):
        """Runs the best stitch of at most so many parameters from now on; returns its entry in the catalog."""
        return self.set_stitch(self.best(params, rule)["id"])

    def best(self, params, rule=None):
        """The catalog's entry of highest value by a rule (the run's own when absent) among those of at most `params`."""
        rule = rule or self.bundle["rule"]
        rated = [stitch for stitch in self.catalog.values() if rule in stitch["values"]]
        if not rated:
            raise ValueError(f"the bundle holds no values of the rule {rule!r}: use set_stitch")
        allowed = [stitch for stitch in rated if stitch["params"] <= params]
        if not allowed:
            least = min(stitch["params"] for stitch in rated)
            raise ValueError(f"no stitch has at most {params:.0f} parameters: the smallest has {least}")
        return min(allowed, key=lambda stitch: (-stitch["values"][rule], stitch["params"], stitch["id"]))

    def places(self):
        """Modules of the path that is set: their names, those of their shared tensors and those of the stitch's own."""
        segments, own, number = self.stitch["segments"], f"stitches.{self.stitch['id']}.", 0
        front, end = segments[0]["anchor"], segments[-1]["anchor"]
        head = "model.embed_tokens" if self.bundle["anchors"][end]["arch"]["tie_word_embeddings"] else "lm_head"
        yield "model.embed_tokens", f"anchors.{front}.model.embed_tokens", ""
        for place, segment in enumerate(segments):
            if place > 0:
                layer = self.stitch["layers"][place - 1]
                yield f"model.stitch_layers.{place - 1}", f"stitch_layers.{layer}", f"{own}layers.{place - 1}"
            for block in range(segment["first"], segment["last"] + 1):
                shared = f"anchors.{segment['anchor']}.model.layers.{block}"
                yield f"model.layers.{number}", shared, f"{own}{place}.blocks.{block}"
                number += 1
        yield "model.norm", f"anchors.{end}.model.norm", ""
        yield "lm_head", f"anchors.{end}.{head}", ""

    def fill(self, path, name, shared, own):
        """Gives a module of `path` its own parameters: those of these names in the bundle."""
        module = path.get_submodule(name)
        if isinstance(module, nn.Linear):
            scale = 1.0 if shared.startswith("stitch_layers.") else self.bundle["lora_scale"]
            found = {key: self.tensor(f"{shared}.{key}") for key in ("weight", "bias")}
            found |= {key: self.tensor(f"{shared}.{key}", f"{own}.{key}") for key in ("lora_A", "lora_B")}
            found["own_bias"] = self.tensor(f"{own}.bias")
            parent, _, last = name.rpartition(".")
            setattr(path.get_submodule(parent), last, AdaptedLinear(scale, found))
            return
        for key in list(module._parameters):
            module.register_parameter(key, self.shared[f"{shared}.{key}".replace(".", "/")])

    def tensor(self, *names):
        """The first of these that the bundle has; None where it has none."""
        names = [name.replace(".", "/") for name in names]
        return next((self.shared[name] for name in names if name in self.shared), None)


def path_config(bundle, stitch, options):
    """What a stitch of a bundle would say of itself as a model of its own."""
    anchors = [bundle["anchors"][segment["anchor"]] for segment in stitch["segments"]]
    archs = [anchor["arch"] for anchor in anchors]
    segments = [
        {
            **anchor["arch"], "anchor": anchor["name"], "qk_norm": anchor["qk_norm"], "attention_output_bias": False,
            "first_block": segment["first"], "num_hidden_layers": segment["last"] - segment["first"] + 1,
        }
        for anchor, segment in zip(anchors, stitch["segments"])
    ]  # fmt: skip
    tokens = {key: bundle[key] for key in ("bos_token_id", "eos_token_id", "pad_token_id")}
    positions = min(arch["max_position_embeddings"] for arch in archs)
    vocabularies = {"vocab_size": archs[-1]["vocab_size"], "embedding_vocab_size": archs[0]["vocab_size"]}
    return StitchedConfig(segments, max_position_embeddings=positions, **vocabularies, **tokens, **options)


def load_bundle(folder, dtype=None, **options):
    """The run of a folder written by `esta-worker export --bundle`, its largest stitch set; `options` are the config's."""
    config = json.loads(Path(folder, "config.json").read_text(encoding="utf-8"))
    found = tuple(map(config.get, ("format", "version", "kind")))
    if found != ("esta-stitched-llm", 1, "bundle"):
        raise ValueError(f"{folder} holds no bundle of this version: use AutoModelForCausalLM; it says {found}")
    dtype = getattr(torch, config["torch_dtype"]) if dtype is None else dtype
    tensors = {name: x.to(dtype) for name, x in load_file(Path(folder, "model.safetensors")).items()}
    model = StitchedBundle(config, tensors, dtype=dtype, **options)
    model.generation_config = GenerationConfig.from_pretrained(folder)
    return model.eval()
