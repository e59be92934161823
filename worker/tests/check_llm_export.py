"""Loads exported language models with transformers alone and compares them with what the run computed.

    python check_llm_export.py FOLDER        (torch 2.11, transformers >= 4.56, safetensors; peft for adapters)

FOLDER is an export, or holds several. Beside an export's own files lies `expected.safetensors`: `ids` [B, N], `logits`
[B, N, V] float32, `prompt` [P] and `greedy` [G], what follows the prompt. A folder with `peft.json` instead of weights
(`{"base": FOLDER, "adapter": FOLDER}`, relative to it) is a model with an adapter as peft loads it. A folder NAME-bundle
is a bundle of stitches whose merged exports lie beside it as NAME-ID, with what is expected of each. Exports of ordinary
architecture are loaded without their being trusted.
"""

import importlib.util
import json
import os
import sys
import tempfile
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_MODULES_CACHE"] = tempfile.mkdtemp()  # modelling files of this run only

import torch
import torch.nn.functional as F
import transformers
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, DynamicCache
from transformers.modeling_outputs import CausalLMOutputWithPast

CLOSE = 1e-5  # of the largest number, or of 1 where that is smaller
CACHE = "cache" if "cache" in CausalLMOutputWithPast.__dataclass_fields__ else "past_key_values"
KINDS = ("eager", "sdpa")


def load(folder, kind, **options):
    """The model of a folder in float32, every tensor of it found and used."""
    own_code = "auto_map" in json.loads((folder / "config.json").read_text())
    options = {"trust_remote_code": own_code, "attn_implementation": kind, "dtype": torch.float32, **options}
    model, info = AutoModelForCausalLM.from_pretrained(folder, output_loading_info=True, **options)
    assert not any(info.values()), f"{folder}: {info}"
    return model.eval()


def load_adapted(folder, kind):
    from peft import PeftModel

    places = json.loads((folder / "peft.json").read_text())
    return PeftModel.from_pretrained(load(folder / places["base"], kind), folder / places["adapter"]).eval()


def off(found, expected):
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return (found - expected).abs().max().item()


def close(found, expected, what):
    assert off(found, expected) < CLOSE * max(1, expected.abs().max().item()), f"{what}: off by {off(found, expected):e}"
    return off(found, expected)


def greedy(model, prompts, length, **options):
    """Prompts of any lengths, padded on the left into one batch; what follows each."""
    longest = max(map(len, prompts))
    ids = torch.stack([F.pad(prompt, (longest - len(prompt), 0)) for prompt in prompts])
    mask = torch.stack([F.pad(torch.ones_like(prompt), (longest - len(prompt), 0)) for prompt in prompts])
    model.generation_config.eos_token_id = None
    options = {"do_sample": False, "max_new_tokens": length, "pad_token_id": 0, **options}
    return model.generate(input_ids=ids, attention_mask=mask, **options)[:, longest:]


def check_logits(model, expected):
    return f"logits off by {close(model(expected['ids']).logits, expected['logits'], 'logits'):.1e}"


def check_greedy(model, expected):
    wanted = expected["greedy"][None]
    for cached in (True, False):
        found = greedy(model, [expected["prompt"]], wanted.shape[1], use_cache=cached)
        assert torch.equal(found, wanted), f"cached {cached}: {found.tolist()} is not {wanted.tolist()}"
    return f"{wanted.numel()} greedy tokens equal, cached and not"


def check_cache(model, expected):
    """Logits through the cache, the sequence fed in three pieces and then one by one."""
    ids, cache = expected["ids"], DynamicCache(config=model.config)
    length = ids.shape[1]
    pieces = ids.split([length // 2, length // 4, *[1] * (length - length // 2 - length // 4)], dim=1)
    pieced = torch.cat([model(piece, use_cache=True, **{CACHE: cache}).logits for piece in pieces], dim=1)
    assert cache.get_seq_length() == length
    return f"off by {close(pieced, model(ids, use_cache=False).logits, 'cached logits'):.1e} in {len(pieces)} pieces"


def check_padding(model, expected):
    prompt = expected["prompt"]
    prompts = [prompt, prompt[3:], prompt[:-1], prompt[:1]]
    together = greedy(model, prompts, 32)
    for one, found in zip(prompts, together):
        alone = greedy(model, [one], 32)[0]
        assert torch.equal(found, alone), f"{len(one)} tokens: {found.tolist()} is not {alone.tolist()}"
    return f"{len(prompts)} prompts padded on the left answer as each alone"


def check_training_interface(model, expected):
    ids, logits = expected["ids"], expected["logits"]
    output = model(ids, labels=ids, logits_to_keep=0)
    loss = F.cross_entropy(logits[:, :-1].flatten(0, 1), ids[:, 1:].flatten())
    worst = close(output.loss, loss, "loss")
    close(model(ids, logits_to_keep=1).logits, logits[:, -1:], "last logits")
    return f"loss {output.loss:.4f} off by {worst:.1e}; last position alone as asked"


CHECKS = {
    "logits": check_logits,
    "greedy": check_greedy,
    "cache": check_cache,
    "padding": check_padding,
    "loss": check_training_interface,
}


def check(folder):
    expected = load_file(folder / "expected.safetensors")
    build = load_adapted if (folder / "peft.json").exists() else load
    for kind in KINDS:
        model = build(folder, kind)
        for name, one in CHECKS.items():
            print(f"{folder.name}: {kind}: {name}: {one(model, expected)}", flush=True)
    if build is load:
        with tempfile.TemporaryDirectory() as again:
            model.save_pretrained(again)
            print(f"{folder.name}: saved and loaded again: {check_logits(load(Path(again), 'sdpa'), expected)}")


def load_bundle(folder, kind):
    """The bundle of a folder through the modelling file in it."""
    spec = importlib.util.spec_from_file_location(f"bundle_{folder.name}".replace("-", "_"), folder / "modeling_stitched.py")
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.load_bundle(folder, attn_implementation=kind)


def check_bundle(folder):
    """Every stitch against its merged export's expectations, in an order that comes back to stitches already run."""
    merged = [(number, folder.parent / folder.name.replace("bundle", str(number))) for number in range(1000)]
    expected = {number: load_file(place / "expected.safetensors") for number, place in merged if place.is_dir()}
    for kind in KINDS:
        model = load_bundle(folder, kind)
        assert sorted(model.catalog) == sorted(expected), (sorted(model.catalog), sorted(expected))
        for number in [*expected, *reversed(expected)]:
            assert model.set_stitch(number)["id"] == number
            results = [CHECKS[name](model, expected[number]) for name in ("logits", "greedy", "cache")]
            print(f"{folder.name}: {kind}: stitch {number}: {'; '.join(results)}", flush=True)
    check_budgets(folder, model)


def check_budgets(folder, model):
    for stitch in model.catalog.values():
        found, allowed = model.set_budget(stitch["params"]), stitch["params"]
        best = max(each["values"]["snip"] for each in model.catalog.values() if each["params"] <= allowed)
        assert found["params"] <= allowed and found["values"]["snip"] == best and model.stitch is found, found
    for impossible in (lambda: model.set_budget(1), lambda: model.set_stitch(999), lambda: model.best(1e12, "none")):
        try:
            impossible()
        except ValueError as error:
            print(f"{folder.name}: refused: {error}")
        else:
            raise AssertionError("that should have been refused")


@torch.no_grad()
def main():
    torch.manual_seed(0)
    transformers.utils.logging.disable_progress_bar()
    root = Path(sys.argv[1]).resolve()
    folders = sorted(file.parent for file in [*root.glob("expected.safetensors"), *root.glob("*/expected.safetensors")])
    bundles = sorted(root.glob("*-bundle"))
    assert folders, f"{root} holds no export with expected.safetensors"
    for folder in folders:
        check(folder)
    for folder in bundles:
        check_bundle(folder)
    print(f"{len(folders)} exports and {len(bundles)} bundles agree: torch {torch.__version__}, transformers {transformers.__version__}")


if __name__ == "__main__":
    main()
