//! Parity with transformers: logits of golden folders within 1e-5, 64 tokens of greedy text the same, with and without the
//! kept keys and values (tests/golden/make_llama_golden.py).

use std::path::{Path, PathBuf};

use esta_engine::arch::{LlamaArch, ModelType, RopeScaling};
use esta_engine::catalog::Catalog;
use esta_engine::groups::GroupLayout;
use esta_engine::spec::Precision;
use esta_model::{
    Decoder, HubError, Input, ParamStore, Phase, Start, StitchedNet, Texts, Weights, WeightsError, read_hub_config,
    read_llama,
};
use esta_proto::StitchId;
use serde_json::json;
use tch::{Device, Kind, Tensor};

use crate::fixture::{distance, spec};

const CASES: [&str; 6] = ["llama", "llama3", "qwen2", "qwen3", "smollm2", "sharded"];

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/llama").join(name)
}

fn arch(name: &str) -> LlamaArch {
    read_hub_config(&golden(name)).expect("a supported model")
}

/// A lone anchor over the weights of a golden folder.
fn net(name: &str, precision: Precision) -> StitchedNet {
    let arch = arch(name);
    let mut family = Weights::new("family");
    family.absorb("anchors.0.", read_llama(&golden(name), &arch, precision, Device::Cpu).expect("readable"));
    let job = spec(json!({
        "mode": "anchor",
        "data": { "num_classes": 0, "text": { "max_length": 128 }, "train": { "layout": "alpaca" } },
        "family": { "anchors": [{ "name": "a", "config": arch, "weights": "-" }] },
    }));
    let catalog = Catalog::build(&job).expect("one anchor");
    let layout = GroupLayout::new(&catalog, &job);
    let start = Start { seed: 1, weights: &family, device: Device::Cpu };
    let store = ParamStore::new(&layout, start).expect("startable");
    StitchedNet::new(&catalog, &store, &family, &job.pst, precision).expect("complete")
}

fn case(name: &str) -> Weights {
    Weights::read(&golden(name).join("case.safetensors")).expect("readable")
}

fn tokens(tensor: &Tensor) -> Vec<i64> {
    Vec::try_from(tensor).expect("tokens")
}

/// Greedy text after a prompt, and the smallest margin by which a token was chosen.
fn greedy(net: &StitchedNet, prompt: &[i64], count: usize) -> Vec<i64> {
    let mut decoder = Decoder::new(net.network(StitchId(0)).expect("the anchor")).expect("it speaks");
    let mut logits = decoder.read(prompt);
    let mut text = Vec::new();
    while text.len() < count {
        let token = logits.argmax(0, false).int64_value(&[]);
        text.push(token);
        logits = decoder.read(&[token]);
    }
    text
}

#[test]
fn logits_are_transformers() {
    for name in CASES {
        let case = case(name);
        let ids = case.get("ids").expect("ids").shallow_clone();
        let wanted = case.get("logits").expect("logits").flatten(0, 1);
        let found = net(name, Precision::F32).forward(StitchId(0), &Input::Texts(Texts::whole(ids)), Phase::Eval);
        let off = distance(&found.expect("the anchor"), &wanted);
        assert!(off < 1e-5, "{name}: off by {off:e}");
    }
}

#[test]
fn greedy_text_is_transformers_for_64_tokens() {
    for name in CASES {
        let case = case(name);
        let [prompt, wanted] = ["prompt", "greedy"].map(|part| tokens(case.get(part).expect("in the case")));
        assert_eq!(greedy(&net(name, Precision::F32), &prompt, wanted.len()), wanted, "{name}");
    }
}

#[test]
fn what_is_kept_of_the_past_changes_nothing() {
    for name in CASES {
        let net = net(name, Precision::F32);
        let ids = tokens(&case(name).get("ids").expect("ids").select(0, 0));
        let whole = Texts::whole(Tensor::from_slice(&ids).view([1, -1]));
        let whole = net.forward(StitchId(0), &Input::Texts(whole), Phase::Eval).expect("the anchor");
        // One by one, all at once, and in pieces of several.
        for pieces in [vec![1; ids.len()], vec![ids.len()], vec![5, 1, 7, ids.len() - 13]] {
            let mut decoder = Decoder::new(net.network(StitchId(0)).expect("the anchor")).expect("it speaks");
            let mut seen = 0;
            for piece in pieces {
                let logits = decoder.read(&ids[seen..seen + piece]);
                seen += piece;
                let off = distance(&logits, &whole.get(seen as i64 - 1));
                assert!(off < 1e-5, "{name}: after {seen} tokens off by {off:e}");
            }
            assert_eq!(decoder.seen(), ids.len() as u64);
        }
    }
}

#[test]
fn bfloat16_stays_close_and_reads_matrices_as_they_are() {
    let weights = read_llama(&golden("sharded"), &arch("sharded"), Precision::Bf16, Device::Cpu).expect("readable");
    let kinds = |matrix: bool| {
        weights.iter().filter(move |(_, tensor)| (tensor.dim() > 1) == matrix).map(|(_, tensor)| tensor.kind())
    };
    assert!(kinds(true).all(|kind| kind == Kind::BFloat16) && kinds(false).all(|kind| kind == Kind::Float));
    let case = case("sharded");
    let ids = case.get("ids").expect("ids").shallow_clone();
    let found = net("sharded", Precision::Bf16).forward(StitchId(0), &Input::Texts(Texts::whole(ids)), Phase::Eval);
    let wanted = case.get("logits").expect("logits").flatten(0, 1);
    let off = distance(&found.expect("the anchor"), &wanted) / wanted.abs().max().double_value(&[]);
    assert!((1e-4..0.1).contains(&off), "off by {off:e} of the largest logit");
}

#[test]
fn a_configuration_says_what_its_family_does() {
    assert!(matches!(arch("llama3").rope_scaling, Some(RopeScaling::Llama3 { .. })));
    assert!(arch("llama3").tie_word_embeddings && !arch("llama").tie_word_embeddings);
    assert_eq!((arch("qwen2").model_type, arch("qwen3").model_type), (ModelType::Qwen2, ModelType::Qwen3));
    let qwen3 = arch("qwen3");
    assert_ne!(qwen3.head_dim * qwen3.num_attention_heads, qwen3.hidden_size);
}

/// A copy of a golden folder that a test may spoil.
fn copy(name: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for entry in std::fs::read_dir(golden(name)).expect("there") {
        let entry = entry.expect("readable");
        std::fs::copy(entry.path(), folder.path().join(entry.file_name())).expect("copied");
    }
    folder
}

fn refused(folder: &Path, arch: &LlamaArch) -> HubError {
    read_llama(folder, arch, Precision::F32, Device::Cpu).expect_err("refused")
}

#[test]
fn what_is_wrong_with_a_folder_is_named() {
    let sharded = copy("sharded");
    let gone = sharded.path().join("model-00002-of-00003.safetensors");
    let shards = std::fs::read_dir(sharded.path()).expect("there").count();
    assert!(shards >= 5, "at least three shards");
    let gone = match gone.exists() {
        true => gone,
        false => std::fs::read_dir(sharded.path())
            .expect("there")
            .map(|entry| entry.expect("readable").path())
            .find(|path| path.to_string_lossy().contains("model-00002"))
            .expect("a second shard"),
    };
    std::fs::remove_file(&gone).expect("removed");
    let missing = refused(sharded.path(), &arch("sharded")).to_string();
    assert!(missing.contains("model-00002") && missing.contains("is missing"), "{missing}");

    let wide = LlamaArch { intermediate_size: 8, ..arch("llama") };
    let misshapen = refused(&golden("llama"), &wide);
    assert!(
        matches!(&misshapen, HubError::Weights(WeightsError::Shape { name, .. }) if name.contains("mlp")),
        "{misshapen}"
    );
    let shallow = LlamaArch { num_hidden_layers: 1, ..arch("llama") };
    let unexpected = refused(&golden("llama"), &shallow);
    assert!(matches!(&unexpected, HubError::Weights(WeightsError::Unexpected { .. })), "{unexpected}");
    let deep = LlamaArch { num_hidden_layers: 9, ..arch("llama") };
    assert!(matches!(refused(&golden("llama"), &deep), HubError::Weights(WeightsError::Missing { .. })));

    let other = copy("llama");
    let config = std::fs::read_to_string(other.path().join("config.json")).expect("readable");
    let spoilt = config.replace("\"model_type\": \"llama\"", "\"model_type\": \"gpt2\"");
    std::fs::write(other.path().join("config.json"), spoilt).expect("written");
    let error = read_hub_config(other.path()).expect_err("another architecture");
    let cause = std::error::Error::source(&error).expect("says why").to_string();
    assert!(cause.contains("model_type \"gpt2\" is not supported"), "{cause}");
}
