//! Language models through their files: what is written and read back says what the run said. With `ESTA_EXPORT_LLM_GOLDEN` set
//! to a folder, `golden` writes exports and expected logits there for `check_llm_export.py`.

#[path = "export_llm/run.rs"]
mod run;

use std::{env, fs, path::Path};

use clap::Parser;
use esta_engine::spec::{Mode, Precision};
use esta_engine::{law::Law, spec::JobSpec, table::Row};
use esta_model::{
    Decoder, Input, ParamStore, Phase, Start, StitchedNet, Texts, Weights, random_anchor, random_layers, read_exported,
    read_hub_config, read_llama,
};
use esta_proto::StitchId;
use esta_text::Tokenizer;
use esta_worker::{
    commands::Cli,
    exit,
    export::{ExportError, Heads, Models, NoForm, Vocabulary, save_anchor},
};
use run::{job, vocabulary};
use serde_json::{Value, json};
use tch::{Device, Kind, Tensor};

/// A family in the middle of training.
struct Family {
    law: Law,
    frozen: Weights,
    store: ParamStore,
}

/// A deterministic number in -1..1 for every element.
fn noise(name: &str, shape: &[i64]) -> Tensor {
    let seed = name.bytes().fold(7_i64, |hash, byte| hash.wrapping_mul(31).wrapping_add(i64::from(byte)) % 10_007);
    let count: i64 = shape.iter().product();
    let numbers = Tensor::arange(count, (Kind::Double, Device::Cpu)) * 12.9898 + seed as f64;
    ((numbers.sin() * 43_758.545).frac() * 2.0 - 1.0).to_kind(Kind::Float).view(shape)
}

impl Family {
    fn trained(spec: JobSpec) -> Self {
        tch::set_num_threads(1);
        let law = Law::new(spec).expect("a sound job");
        let mut frozen = Weights::new("fixture");
        for (number, arch) in law.catalog.anchors.iter().enumerate() {
            let anchor = random_anchor(arch, law.catalog.task, 7);
            for (name, tensor) in anchor.iter() {
                let mut tensor = tensor.shallow_clone();
                // Well conditioned: what is compared are the files, not how float32 rounds a steep network.
                if name.contains("embed_tokens") {
                    tensor *= 0.02 / 0.3;
                }
                if name.ends_with("o_proj.weight") || name.ends_with("down_proj.weight") {
                    tensor *= f64::from(2 * arch.depth()).sqrt();
                }
                tensor += noise(&format!("{number}{name}"), &tensor.size()) * 0.1;
            }
            frozen.absorb(&format!("anchors.{number}."), anchor);
        }
        frozen.absorb("", random_layers(&law.catalog, 3));
        let start = Start { seed: 1, weights: &frozen, device: Device::Cpu };
        let store = ParamStore::new(&law.layout, start).expect("startable");
        for param in store.groups().iter().flat_map(|group| &group.params) {
            let mut tensor = param.tensor.detach();
            tensor += noise(&param.name, &param.tensor.size()) * 0.1;
        }
        Self { law, frozen, store }
    }

    fn net(&self) -> StitchedNet {
        let spec = &self.law.spec;
        StitchedNet::new(&self.law.catalog, &self.store, &self.frozen, &spec.pst, spec.train.precision).expect("whole")
    }

    fn models(&self, vocabulary: Vocabulary) -> Models<'_> {
        let frozen = self.frozen.to_device(Device::Cpu);
        Models::new(&self.law, &self.store, frozen).expect("all is there").speaking(vocabulary)
    }

    fn stitches(&self) -> Vec<StitchId> {
        self.law.catalog.stitches().map(|stitch| stitch.id).collect()
    }
}

/// Two texts of 20 tokens.
fn ids() -> Tensor {
    (Tensor::arange(40, (Kind::Int64, Device::Cpu)) * 37 + 11).fmod(290).view([2, 20])
}

fn whole() -> Input {
    Input::Texts(Texts::whole(ids()))
}

fn distance(one: &Tensor, other: &Tensor) -> f64 {
    (one - other).abs().max().double_value(&[])
}

/// How far logits are from those expected, beyond what float32 is granted in proportion to a number. With 1e-5 as the most it is what
/// `torch.testing.assert_close` asks of float32: merged weights are rounded once more, and processors differ in their sums.
fn off(logits: &Tensor, expected: &Tensor) -> f64 {
    ((logits - expected).abs() - expected.abs() * 1.3e-6).max().double_value(&[])
}

/// Rows of the smaller embedding: tokens that every stitch can read.
const SMALLER: i64 = 300;

const PROMPT: [i64; 8] = [5, 120, 77, 3, 260, 18, 9, 201];

fn greedy(decoder: &mut Decoder<'_>, count: usize) -> Vec<i64> {
    let mut logits = decoder.read(&PROMPT);
    let mut text = Vec::new();
    while text.len() < count {
        text.push(logits.narrow(0, 0, SMALLER).argmax(0, false).int64_value(&[]));
        logits = decoder.read(&text[text.len() - 1..]);
    }
    text
}

fn families() -> Vec<(&'static str, Family)> {
    let attention = ["q", "k", "v"];
    vec![
        ("llama", Family::trained(job("llama", false, &attention))),
        ("qwen2", Family::trained(job("qwen2", true, &attention))),
        ("qwen3", Family::trained(job("qwen3", true, &["q", "k", "v", "o", "fc1", "fc2"]))),
    ]
}

/// Heads that are normed, where the other anchor's are wider.
fn normed_heads_filled_up() -> (&'static str, Family) {
    let mut spec = job("qwen3", false, &["q"]);
    spec.family.anchors[0].config.as_mut().expect("given in numbers").head_dim = 16;
    ("normed", Family::trained(spec))
}

#[test]
fn every_stitch_says_from_its_files_what_it_said_in_the_run() {
    // Targets that leave some maps of a block without the stitch's own bias.
    let partly = ("partly", Family::trained(job("qwen3", true, &["k", "fc2"])));
    for (name, family) in families().into_iter().chain([partly]) {
        let dir = tempfile::tempdir().expect("a folder");
        let models = family.models(vocabulary(&dir.path().join("tokenizer")));
        let net = family.net();
        for stitch in family.stitches() {
            let folder = dir.path().join(stitch.to_string());
            models.write_stitch(stitch, &[], &folder).expect("written");
            let read = read_exported(&folder, Precision::F32, Device::Cpu).expect("readable");
            let off = tch::no_grad(|| {
                let run = net.forward(stitch, &whole(), Phase::Eval).expect("in the catalog");
                off(&read.forward(&whole(), Phase::Eval), &run)
            });
            assert!(off < 1e-5, "{name}, stitch {stitch}: off by {off:e}");
            let mut own = Decoder::new(net.network(stitch).expect("there")).expect("it speaks");
            let mut again = Decoder::new(&read).expect("it speaks");
            assert_eq!(greedy(&mut own, 64), greedy(&mut again, 64), "{name}, stitch {stitch}");
            let tokenizer = Tokenizer::open(&folder).expect("its tokenizer lies beside it");
            assert_eq!(tokenizer.eos_ids(), [0]);
        }
    }
}

#[test]
fn a_lone_anchor_is_its_ordinary_architecture_where_that_has_room_for_its_biases() {
    let architectures = |name: &str, family: &Family| {
        let dir = tempfile::tempdir().expect("a folder");
        let models = family.models(vocabulary(&dir.path().join("tokenizer")));
        let of = |stitch: StitchId| {
            let folder = dir.path().join(stitch.to_string());
            models.write_stitch(stitch, &[], &folder).expect("written");
            let text = fs::read(folder.join("config.json")).expect("readable");
            let config: Value = serde_json::from_slice(&text).expect("JSON");
            if config["auto_map"].is_null() {
                let arch = read_hub_config(&folder).expect("an ordinary model");
                read_llama(&folder, &arch, Precision::F32, Device::Cpu).expect("complete");
                assert!(!folder.join("modeling_stitched.py").exists(), "{name}");
            } else {
                assert!(folder.join("modeling_stitched.py").exists(), "{name}");
            }
            config["architectures"][0].as_str().expect("named").to_owned()
        };
        [StitchId(0), StitchId(1), StitchId(2)].map(of)
    };
    let found: Vec<_> = families().iter().map(|(name, family)| architectures(name, family)).collect();
    let stitched = "StitchedForCausalLM";
    assert_eq!(found[0], ["LlamaForCausalLM", "LlamaForCausalLM", stitched]);
    assert_eq!(found[1], ["LlamaForCausalLM", "Qwen2ForCausalLM", stitched]);
    // Qwen3 has no bias in its MLP.
    assert_eq!(found[2], ["LlamaForCausalLM", stitched, stitched]);
}

#[test]
fn a_width_that_the_heads_do_not_divide_is_no_ordinary_llama() {
    let mut spec = serde_json::to_value(job("llama", false, &["q"])).expect("a tree");
    spec["family"]["anchors"][1]["config"]["hidden_size"] = 26.into();
    let family = Family::trained(serde_json::from_value(spec).expect("a job"));
    let dir = tempfile::tempdir().expect("a folder");
    let models = family.models(vocabulary(&dir.path().join("tokenizer")));
    models.write_stitch(StitchId(1), &[], &dir.path().join("b")).expect("written");
    // transformers reads no LLaMA of 4 heads and 26 channels.
    assert_eq!(read_json(&dir.path().join("b/config.json"))["architectures"][0], "StitchedForCausalLM");
}

#[test]
fn an_export_replaces_an_older_one_and_nothing_else() {
    let family = Family::trained(job("llama", false, &["q"]));
    let dir = tempfile::tempdir().expect("a folder");
    let models = family.models(vocabulary(&dir.path().join("tokenizer")));
    let target = dir.path().join("model");
    models.write_stitch(StitchId(0), &[], &target).expect("written");
    models.write_stitch(StitchId(2), &[], &target).expect("an export is replaced");
    assert!(target.join("modeling_stitched.py").exists());
    let foreign = models.write_stitch(StitchId(0), &[], &dir.path().join("tokenizer"));
    assert!(foreign.is_err_and(|error| error.to_string().contains("is no exported model")));
}

/// A number that its config says of a folder's every segment.
fn geometries(folder: &Path) -> Vec<[u64; 3]> {
    let config = read_json(&folder.join("config.json"));
    let keys = ["num_attention_heads", "num_key_value_heads", "head_dim"];
    let segments = config["segments"].as_array().expect("segments");
    segments.iter().map(|segment| keys.map(|key| segment[key].as_u64().expect("a number"))).collect()
}

fn read_json(path: &Path) -> Value {
    serde_json::from_slice(&fs::read(path).expect("readable")).expect("JSON")
}

#[test]
fn heads_filled_up_to_one_geometry_say_the_same() {
    for (name, family) in families().into_iter().chain([normed_heads_filled_up()]) {
        let dir = tempfile::tempdir().expect("a folder");
        let models = family.models(vocabulary(&dir.path().join("tokenizer"))).with_heads(Heads::Padded);
        let folder = dir.path().join("padded");
        models.write_stitch(StitchId(2), &[], &folder).expect("written");
        // 2 queries to each head of keys and values, where the front has one; the wider heads of the two.
        let width =
            family.law.catalog.anchors.iter().filter_map(|arch| arch.as_llama()).map(|arch| arch.head_dim).max();
        assert_eq!(geometries(&folder), [[4, 2, u64::from(width.expect("two anchors"))]; 2], "{name}");
        let read = read_exported(&folder, Precision::F32, Device::Cpu).expect("readable");
        let net = family.net();
        let off = tch::no_grad(|| {
            let run = net.forward(StitchId(2), &whole(), Phase::Eval).expect("in the catalog");
            off(&read.forward(&whole(), Phase::Eval), &run)
        });
        assert!(off < 1e-5, "{name}: off by {off:e}");
        let mut own = Decoder::new(net.network(StitchId(2)).expect("there")).expect("it speaks");
        assert_eq!(greedy(&mut own, 64), greedy(&mut Decoder::new(&read).expect("it speaks"), 64), "{name}");
        models.write_stitch(StitchId(0), &[], &folder).expect("written");
        assert!(read_json(&folder.join("config.json"))["segments"].is_null(), "a lone anchor has one geometry");
    }
}

#[test]
fn an_adapter_has_the_names_and_shapes_that_peft_expects() {
    let family = Family::trained(job("qwen3", false, &["q", "fc1", "fc2"]));
    let dir = tempfile::tempdir().expect("a folder");
    let models = family.models(vocabulary(&dir.path().join("tokenizer")));
    let folder = dir.path().join("adapter");
    models.write_adapter(StitchId(1), &[], &folder).expect("written");
    let config = read_json(&folder.join("adapter_config.json"));
    assert_eq!(config["target_modules"], json!(["q_proj", "gate_proj", "up_proj", "down_proj"]));
    assert_eq!((&config["peft_type"], &config["task_type"]), (&json!("LORA"), &json!("CAUSAL_LM")));
    assert_eq!((config["r"].as_u64(), config["lora_alpha"].as_f64()), (Some(2), Some(3.0)));
    assert_eq!((&config["lora_bias"], &config["base_model_name_or_path"]), (&json!(true), &json!("-")));
    let tensors = Weights::read(&folder.join("adapter_model.safetensors")).expect("readable");
    for block in 0..4 {
        for (map, [outputs, inputs]) in [
            ("self_attn.q_proj", [48, 24]),
            ("mlp.gate_proj", [40, 24]),
            ("mlp.up_proj", [40, 24]),
            ("mlp.down_proj", [24, 40]),
        ] {
            let name = |part: &str| format!("base_model.model.model.layers.{block}.{map}.{part}");
            tensors.expect(&name("lora_A.weight"), &[2, inputs]).expect("there");
            tensors.expect(&name("lora_B.weight"), &[outputs, 2]).expect("there");
            let bias = tensors.expect(&name("lora_B.bias"), &[outputs]).expect("there");
            let own = family.store.get(&format!("stitches.1.0.blocks.{block}.{map}.bias")).expect("trained");
            assert!(distance(&(bias * 1.5), own) < 1e-6, "peft multiplies biases by alpha / r");
        }
    }
    assert_eq!(tensors.iter().count(), 4 * 4 * 3);
}

#[test]
fn what_is_no_adapter_is_refused_with_the_reason() {
    let dir = tempfile::tempdir().expect("a folder");
    let refused = |family: &Family, stitch| {
        let models = family.models(vocabulary(&dir.path().join("tokenizer")));
        let error = models.write_adapter(StitchId(stitch), &[], &dir.path().join("adapter")).expect_err("refused");
        let Err(ExportError::Form { source, .. }) = Err::<(), _>(error) else { panic!("another error") };
        source
    };
    let family = Family::trained(job("llama", false, &["q"]));
    assert_eq!(refused(&family, 2), NoForm::StitchedAdapter);
    let everything = Family::trained(JobSpec { mode: Mode::Snnet, ..job("llama", false, &["q"]) });
    assert_eq!(refused(&everything, 0), NoForm::NothingAdapted);
    assert!(!dir.path().join("adapter").exists());
}

#[test]
fn a_bundle_restores_the_whole_run() {
    for (name, family) in families() {
        let dir = tempfile::tempdir().expect("a folder");
        let models = family.models(vocabulary(&dir.path().join("tokenizer")));
        let folder = dir.path().join("bundle");
        models.write_bundle(&rated(&family), &folder).expect("written");
        let bundle = Weights::read(&folder).expect("readable");
        let start = Start { seed: 9, weights: &bundle, device: Device::Cpu };
        let store = ParamStore::new(&family.law.layout, start).expect("complete");
        let spec = &family.law.spec;
        let again =
            StitchedNet::new(&family.law.catalog, &store, &bundle, &spec.pst, spec.train.precision).expect("whole");
        for stitch in family.stitches() {
            let of = |net: &StitchedNet| tch::no_grad(|| net.forward(stitch, &whole(), Phase::Eval)).expect("there");
            let off = distance(&of(&again), &of(&family.net()));
            assert!(off == 0.0, "{name}, stitch {stitch}: off by {off:e}");
        }
        let config = read_json(&folder.join("config.json"));
        assert_eq!((&config["kind"], &config["lora_scale"]), (&json!("bundle"), &json!(1.5)));
        let stitches = config["stitches"].as_array().expect("a list");
        assert_eq!(stitches.len(), family.stitches().len());
        assert_eq!(stitches[2]["values"]["snip"], 4.0);
        assert_eq!(config["anchors"][1]["arch"]["rope_scaling"]["rope_type"], "llama3");
        assert!(folder.join("modeling_stitched.py").exists() && folder.join("tokenizer.json").exists());
        let Err(error) = read_exported(&folder, Precision::F32, Device::Cpu) else { panic!("no single model") };
        let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
        assert!(format!("{error} {cause}").contains("export one with --stitch"), "{error} {cause}");
    }
}

#[test]
fn the_command_writes_every_form_and_refuses_the_others_by_their_reasons() {
    let dir = tempfile::tempdir().expect("a folder");
    run::write(dir.path());
    let export = |args: &[&str]| {
        let run_dir = dir.path().to_str().expect("text");
        Cli::try_parse_from([&["esta-worker", "export", "--run-dir", run_dir], args].concat())
            .expect("words")
            .command
            .run()
    };
    let at = |name: &str| dir.path().join("export").join(name);

    export(&["--stitch", "1", "--adapter"]).expect("written");
    let config = read_json(&at("adapter-1/adapter_config.json"));
    assert_eq!(config["base_model_name_or_path"], dir.path().join("b").display().to_string());
    export(&["--stitch", "2", "--pad-heads"]).expect("written");
    assert_eq!(geometries(&at("stitch-2")), [[4, 2, 12]; 2]);
    export(&["--stitch", "2"]).expect("written");
    assert_eq!(geometries(&at("stitch-2")), [[2, 2, 8], [4, 2, 12]]);
    export(&["--bundle"]).expect("written");
    assert_eq!(read_json(&at("bundle/esta.json"))["template"], "alpaca");

    let refused = |args: &[&str]| {
        let error = export(args).expect_err("refused");
        (exit::of(&error), format!("{error:#}"))
    };
    for (args, reason) in [
        (&["--stitch", "2", "--adapter"][..], "a stitched path is no adapter of one model: export it merged"),
        (&["--stitch", "0", "--gguf"], "GGUF has no form for a model of two widths"),
        (&["--palette", "--gguf"], "convert_hf_to_gguf.py"),
    ] {
        let (code, line) = refused(args);
        assert!(code == exit::USAGE && line.contains(reason), "{code}: {line}");
    }
    let words = |args: &[&str]| Cli::try_parse_from([&["esta-worker", "export", "--run-dir", "-"], args].concat());
    for args in
        [&["--bundle", "--pad-heads"][..], &["--palette", "--adapter"], &["--stitch", "0", "--adapter", "--gguf"]]
    {
        assert!(words(args).is_err(), "{args:?}");
    }
}

/// A table in which the largest is not the best.
fn rated(family: &Family) -> Vec<(StitchId, Row)> {
    let row = |stitch: StitchId| Row { importance: Some(f64::from(stitch.0 * 7 % 5)), ..Row::default() };
    family.stitches().into_iter().map(|stitch| (stitch, row(stitch))).collect()
}

#[test]
fn golden() {
    let Some(out) = env::var_os("ESTA_EXPORT_LLM_GOLDEN").map(std::path::PathBuf::from) else { return };
    fs::remove_dir_all(&out).ok();
    for (name, family) in families() {
        let vocabulary = vocabulary(&out.join(".tokenizer"));
        let models = family.models(vocabulary.clone());
        for stitch in family.stitches() {
            let folder = out.join(format!("{name}-{stitch}"));
            models.write_stitch(stitch, &[], &folder).expect("written");
            expected(&family, stitch).save(&folder.join("expected.safetensors")).expect("written");
        }
        models.write_bundle(&rated(&family), &out.join(format!("{name}-bundle"))).expect("written");
        golden_adapter(&family, vocabulary, &out.join(format!("adapter-{name}")));
    }
    golden_padded(&out);
}

fn golden_padded(out: &Path) {
    for (name, family) in families().into_iter().chain([normed_heads_filled_up()]) {
        let models = family.models(vocabulary(&out.join(".tokenizer"))).with_heads(Heads::Padded);
        let folder = out.join(format!("padded-{name}"));
        models.write_stitch(StitchId(2), &[], &folder).expect("written");
        expected(&family, StitchId(2)).save(&folder.join("expected.safetensors")).expect("written");
    }
}

/// What the run says of a stitch.
fn expected(family: &Family, stitch: StitchId) -> Weights {
    let net = family.net();
    let mut expected = Weights::new("expected");
    let logits = tch::no_grad(|| net.forward(stitch, &whole(), Phase::Eval)).expect("in the catalog");
    expected.insert("logits", logits.view([2, 20, -1]));
    expected.insert("ids", ids());
    expected.insert("prompt", Tensor::from_slice(&PROMPT));
    let mut decoder = Decoder::new(net.network(stitch).expect("there")).expect("it speaks");
    expected.insert("greedy", Tensor::from_slice(&greedy(&mut decoder, 64)));
    expected
}

/// The larger anchor as an adapter, with the anchor itself beside it.
fn golden_adapter(family: &Family, vocabulary: Vocabulary, folder: &Path) {
    let mut anchor = Weights::new("anchor");
    for (name, tensor) in family.frozen.iter() {
        if let Some(name) = name.strip_prefix("anchors.1.") {
            anchor.insert(name, tensor.shallow_clone());
        }
    }
    fs::create_dir_all(folder).expect("created");
    let arch = family.law.catalog.anchors[1].as_llama().expect("a language model");
    save_anchor(arch, &anchor, &vocabulary, &folder.join("base")).expect("written");
    family.models(vocabulary).write_adapter(StitchId(1), &[], &folder.join("adapter")).expect("written");
    let places = json!({ "base": "base", "adapter": "adapter" });
    fs::write(folder.join("peft.json"), places.to_string()).expect("written");
    expected(family, StitchId(1)).save(&folder.join("expected.safetensors")).expect("written");
}
