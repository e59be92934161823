"""Makes the golden files beside it: two tiny tokenizers of the kinds that Llama and Qwen use, and what transformers
makes of texts and conversations with them. Needs transformers, tokenizers and jinja2.

    python make.py
"""

import json
from pathlib import Path

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

HERE = Path(__file__).parent
WORDS = ["Which header declares open? <fcntl.h>", "What does close return? 0, or -1 on error; see errno(3).",
         "system user assistant one two three four five", "Today Date: 26 Jul 2024", "Be brief."]
TEXTS = ["", "Which header declares open?", " two  spaces\n\n\nand lines\r\n\t tab", "It's 12345 o'clock, I'LL go",
         "caf\u00e9 na\u00efve \u4f60\u597d \U0001f600 \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35", "<|eot_id|>a<|im_end|>\n</s> b<s>",
         " " * 40 + "x", "### Response:"]
# The pattern of Llama 3's pre-tokenizer; Qwen's has \p{N} where it has \p{N}{1,3}.
PATTERN = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+"
           r"|\s+(?!\S)|\s+")


def special(text):
    return AddedToken(text, special=True, normalized=False)


def byte_level():
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(PATTERN), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
    tokenizer.decoder = decoders.ByteLevel()
    names = ["<|begin_of_text|>", "<|end_of_text|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>",
             "<|im_start|>", "<|im_end|>"]
    trainer = trainers.BpeTrainer(vocab_size=300, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
                                  special_tokens=[special(name) for name in names], show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", 0)])])
    tokenizer.enable_truncation(5)
    tokenizer.enable_padding(length=16, pad_id=1, pad_token="<|end_of_text|>")
    return tokenizer, {"bos_token": "<|begin_of_text|>", "eos_token": "<|end_of_text|>"}


def sentence_piece():
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True, byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("\u2581"), normalizers.Replace(" ", "\u2581")])
    tokenizer.decoder = decoders.Sequence([decoders.Replace("\u2581", " "), decoders.ByteFallback(), decoders.Fuse(),
                                           decoders.Strip(" ", 1, 0)])
    names = ["<unk>", "<s>", "</s>"]
    first = [special(name) for name in names] + [AddedToken(f"<0x{byte:02X}>") for byte in range(256)]
    trainer = trainers.BpeTrainer(vocab_size=360, special_tokens=first, show_progress=False)
    tokenizer.train_from_iterator(WORDS, trainer)
    state = json.loads(tokenizer.to_str())
    state["added_tokens"] = [token for token in state["added_tokens"] if token["id"] < 3]
    tokenizer = Tokenizer.from_str(json.dumps(state))
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer, {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}


def main():
    conversations = json.loads((HERE / "conversations.json").read_text())
    expected = {"texts": [], "renderings": []}
    for name, (tokenizer, tokens) in {"byte_level": byte_level(), "sentence_piece": sentence_piece()}.items():
        folder = HERE / name
        folder.mkdir(exist_ok=True)
        tokenizer.save(str(folder / "tokenizer.json"), pretty=False)
        (folder / "tokenizer_config.json").write_text(json.dumps(tokens) + "\n")
        tokenizer.no_truncation()
        tokenizer.no_padding()
        fast = PreTrainedTokenizerFast(tokenizer_object=tokenizer, clean_up_tokenization_spaces=False, **tokens)
        for text in TEXTS:
            ids = fast(text)["input_ids"]
            bare = fast(text, add_special_tokens=False)["input_ids"]
            expected["texts"].append({"tokenizer": name, "text": text, "ids": ids, "bare": bare,
                                      "decoded": fast.decode(ids, skip_special_tokens=True)})
        if name != "byte_level":
            continue
        for template in ["qwen", "llama", "blocks"]:
            fast.chat_template = (HERE / f"{template}.jinja").read_text()
            for number, messages in enumerate(conversations):
                for prompt in [True, False]:
                    case = {"template": template, "conversation": number, "prompt": prompt}
                    try:
                        case["text"] = fast.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
                        case["ids"] = fast(case["text"], add_special_tokens=False)["input_ids"]
                    except Exception as error:
                        case["error"] = str(error)
                    expected["renderings"].append(case)
    lists = [f'"{name}": [\n' + ",\n".join(map(json.dumps, cases)) + "\n]" for name, cases in expected.items()]
    (HERE / "expected.json").write_text("{\n" + ",\n".join(lists) + "\n}\n")


main()
