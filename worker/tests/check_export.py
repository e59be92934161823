"""Loads exports with PyTorch alone and compares them with what the run computed.

    ESTA_EXPORT_GOLDEN=GOLDEN cargo test -p esta-worker --test export golden
    python check_export.py GOLDEN        (torch >= 2.1; timm and Pillow for what is compared with them)

GOLDEN holds families; each has `expected.safetensors` (images, logits by stitch), `stitch-<id>/` and `bundle/`.
"""

import importlib.util
import json
import sys
from pathlib import Path

import torch

CLOSE = 1e-5


def modelling(folder):
    """The modelling file of an export, as a module."""
    spec = importlib.util.spec_from_file_location("modeling_stitched_vit", folder / "modeling_stitched_vit.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def off(found, expected):
    assert found.shape == expected.shape, (found.shape, expected.shape)
    return (found - expected).abs().max().item()


def close(found, expected, what):
    assert off(found, expected) < CLOSE, f"{what}: off by {off(found, expected):e}"
    return off(found, expected)


def raises(error, call, text):
    try:
        call()
    except error as refusal:
        assert text in str(refusal), refusal
    else:
        raise AssertionError(f"expected {error.__name__}: {text}")


def check_stitches(family, expected):
    worst = 0.0
    for name in [name for name in expected if name != "images"]:
        folder = family / f"stitch-{name.removeprefix('logits.')}"
        model = modelling(folder).load(folder)
        worst = max(worst, close(model(expected["images"]), expected[name], folder))
        config = json.loads((folder / "config.json").read_text())
        assert sum(parameter.numel() for parameter in model.parameters()) == config["params"], folder
    return worst


def check_bundle(family, expected):
    folder = family / "bundle"
    model = modelling(folder).load_bundle(folder)
    worst = 0.0
    for name in [name for name in expected if name != "images"]:
        model.set_stitch(int(name.removeprefix("logits.")))
        worst = max(worst, close(model(expected["images"]), expected[name], (folder, name)))
    check_budgets(model)
    return worst


def check_budgets(model):
    """Every budget against a search written another way."""
    entries = list(model.catalog.values())
    for rule in ("snip", "loss", None):
        for budget in sorted({entry["macs"] + extra for entry in entries for extra in (0, 1)}):
            found = model.set_budget(budget, rule)
            assert found is model.stitch and found["macs"] <= budget
            key = rule or model.config["rule"]
            better = [
                other
                for other in entries
                if other["macs"] <= budget
                and (other["values"][key], -other["macs"], -other["id"])
                > (found["values"][key], -found["macs"], -found["id"])
            ]
            assert not better, (rule, budget, found["id"], better)
    least = min(entry["macs"] for entry in entries)
    raises(ValueError, lambda: model.set_budget(least - 1), "the smallest costs")
    raises(ValueError, lambda: model.set_stitch(10**6), "has no stitch")


def check_refusals(family):
    bundle, stitch = family / "bundle", next(family.glob("stitch-*"))
    module = modelling(bundle)
    raises(ValueError, lambda: module.load(bundle), "use load_bundle")
    raises(ValueError, lambda: module.load_bundle(stitch), "use load")
    assert not {"safetensors", "timm"} & set(sys.modules), "the modelling file needs PyTorch alone"


def check_timm(family, expected):
    """A lone anchor through timm: by its arguments with strict loading, and as a local folder."""
    import timm
    from safetensors.torch import load_file

    anchors = 0
    for folder in family.glob("stitch-*"):
        config = json.loads((folder / "config.json").read_text())
        if len(config["segments"]) > 1:
            assert "architecture" not in config
            continue
        anchors += 1
        built = timm.create_model(config["architecture"], num_classes=config["num_classes"], **config["model_args"])
        built.load_state_dict(load_file(folder / "model.safetensors"), strict=True)
        local = timm.create_model(f"local-dir:{folder.resolve()}", pretrained=True)
        data = timm.data.resolve_model_data_config(local)
        assert list(data["input_size"]) == config["input_size"] and list(data["mean"]) == config["preprocess"]["mean"]
        for model in (built, local):
            close(model.eval()(expected["images"]), expected[f"logits.{config['stitch']}"], (folder, "timm"))
    assert anchors == 2, anchors


def check_preprocessing(family):
    """Against timm's own evaluation transform: at most one of 256 levels."""
    from PIL import Image
    from timm.data import create_transform

    folder = family / "bundle"
    model = modelling(folder).load_bundle(folder)
    for channels, sides in ((1, (28, 28)), (3, (37, 61)), (3, (8, 5))):
        for resize, mode, share in (("direct", "squash", 1.0), ("center_crop", "center", 0.875)):
            model.config["input_size"] = [channels, 16, 16]
            model.config["preprocess"] = {"resize": resize, "mean": [0.4] * channels, "std": [0.2] * channels}
            image = torch.randint(0, 256, (channels, *sides), dtype=torch.uint8)
            pixels = image.permute(1, 2, 0).numpy()
            picture = Image.fromarray(pixels[..., 0] if channels == 1 else pixels)
            transform = create_transform(
                (channels, 16, 16), mean=(0.4,) * channels, std=(0.2,) * channels,
                interpolation="bicubic", crop_mode=mode, crop_pct=share,
            )
            levels = off(model.preprocess(image)[0], transform(picture)) * 0.2 * 255
            assert levels < 1.01, (channels, sides, resize, levels)


def main():
    torch.manual_seed(0)
    families = sorted(folder for folder in Path(sys.argv[1]).iterdir() if (folder / "bundle").is_dir())
    assert families, f"{sys.argv[1]} holds no exports"
    checked = []
    with torch.no_grad():
        for family in families:
            expected = modelling(family / "bundle").read_safetensors(family / "expected.safetensors")
            worst = max(check_stitches(family, expected), check_bundle(family, expected))
            check_refusals(family)
            checked.append((family, expected))
            print(f"{family.name}: {len(expected) - 1} stitches, merged and in the bundle, off by at most {worst:.1e}")
        for family, expected in checked:
            check_timm(family, expected)
        check_preprocessing(families[0])
    print(f"torch {torch.__version__}: timm loads every lone anchor; preprocessing is within one level of timm's")


if __name__ == "__main__":
    main()
