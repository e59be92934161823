//! A family of two small language models: its job, its tokenizer, its folder on disk after a checkpoint.

use std::{fs, path::Path};

use esta_engine::{law::Law, spec::JobSpec};
use esta_model::random_anchor;
use esta_text::train_tokenizer;
use esta_worker::{
    export::{Vocabulary, save_anchor},
    trainer::{DeviceKind, Job, State},
};
use serde_json::{Value, json};

/// Two decoders of unequal depth, width and heads, the larger one of this type.
pub fn job(large_type: &str, tied: bool, targets: &[&str]) -> JobSpec {
    let anchor = |name: &str, config: Value| json!({ "name": name, "config": config, "weights": "-" });
    let small = json!({
        "vocab_size": 300, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "num_attention_heads": 2,
        "num_key_value_heads": 2, "head_dim": 8, "rms_norm_eps": 1e-5, "tie_word_embeddings": tied,
        "max_position_embeddings": 200,
    });
    let scaling = json!({
        "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    });
    let large = json!({
        "model_type": large_type, "vocab_size": 304, "hidden_size": 24, "intermediate_size": 40,
        "num_hidden_layers": 4, "num_attention_heads": 4, "num_key_value_heads": 2, "head_dim": 12,
        "rope_theta": 5e4, "rope_scaling": scaling, "tie_word_embeddings": tied, "max_position_embeddings": 256,
    });
    serde_json::from_value(json!({
        "name": "tiny",
        "family": { "anchors": [anchor("a", small), anchor("b", large)], "space": { "kind": "proportional" } },
        "pst": { "lora_r": 2, "lora_alpha": 3.0, "stitch_r": 3, "targets": targets },
        "train": { "max_steps": 10 },
        "data": { "text": { "max_length": 160 }, "train": { "layout": "alpaca", "path": "-" } },
        "budgets": { "params": { "gap": 100 } },
    }))
    .expect("a job")
}

/// A tokenizer that was made on the spot.
pub fn vocabulary(folder: &Path) -> Vocabulary {
    let texts = ["open opens a file and returns a file descriptor", "read reads from a file descriptor"];
    let tokenizer = train_tokenizer(texts.map(str::to_owned), 290, folder).expect("trained");
    Vocabulary::new(&tokenizer, folder.to_owned())
}

/// Writes the folder of a run that has one checkpoint.
pub fn write(dir: &Path) {
    let path = |name: &str| dir.join(name).display().to_string();
    let mut spec = job("llama", false, &["q", "k", "v"]);
    let law = Law::new(spec.clone()).expect("a sound job");
    let vocabulary = vocabulary(&dir.join("tokenizer"));
    for (anchor, arch) in spec.family.anchors.iter_mut().zip(&law.catalog.anchors) {
        anchor.weights = path(&anchor.name);
        let arch_of = arch.as_llama().expect("a language model");
        save_anchor(arch_of, &random_anchor(arch, law.catalog.task, 5), &vocabulary, anchor.weights.as_ref())
            .expect("written");
    }
    let examples: Vec<Value> = (0..40)
        .map(|number| json!({ "instruction": format!("open {number}"), "output": "a file descriptor" }))
        .collect();
    fs::write(dir.join("train.json"), serde_json::to_vec(&examples).expect("JSON")).expect("writable");
    spec.data.train.path = path("train.json");
    fs::write(dir.join("job.json"), serde_json::to_vec(&spec).expect("JSON")).expect("writable");
    spec.output_dir = Some(dir.display().to_string());
    let job = Job::load(spec, DeviceKind::Cpu).expect("all is there");
    let state = State::fresh(&job).expect("fits");
    job.family.checkpoints.stage(&state.summary(&job), |folder| state.write(folder)).expect("writable");
    job.family.checkpoints.publish(state.applied).expect("writable");
}
