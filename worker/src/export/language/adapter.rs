//! A lone anchor of a run as a PEFT adapter (HANDS): its low-rank pairs and own biases, without the weights they change.

use esta_engine::{catalog::Stitch, law::Law, spec::Target};
use esta_model::{ParamStore, Weights};
use serde_json::{Value, json};
use tch::Tensor;

use super::{
    super::{ExportError, NoForm, Palettes, folder},
    Origin,
};

/// Writes what a stitch of one segment adds to its anchor, in the form that peft loads.
pub fn write(
    law: &Law,
    store: &ParamStore,
    stitch: &Stitch,
    palettes: &Palettes,
    target: &std::path::Path,
) -> Result<(), ExportError> {
    let refused = |source| ExportError::Form { stitch: stitch.id, source };
    if !stitch.is_anchor() {
        return Err(refused(NoForm::StitchedAdapter));
    }
    let tensors = tensors(law, store, stitch);
    if tensors.numel() == 0 || law.spec.pst.scale() == 0.0 {
        return Err(refused(NoForm::NothingAdapted));
    }
    let config = config(law, stitch, &tensors);
    let origin = Origin::new(law, stitch, palettes);
    folder::replace(target, None, |files| {
        files.tensors_as("adapter_model.safetensors", &tensors)?;
        files.json("adapter_config.json", &config)?;
        files.json(folder::ADAPTED_MARK, &origin)?;
        files.text("README.md", &readme(&origin, &law.spec.family.anchors[stitch.end_anchor().index()].weights))
    })
}

/// By peft's names. It multiplies an adapter's bias by alpha/r too, so it is divided by that here.
fn tensors(law: &Law, store: &ParamStore, stitch: &Stitch) -> Weights {
    let (anchor, pst) = (stitch.end_anchor(), &law.spec.pst);
    let mut found = Weights::new(format!("adapter of stitch {}", stitch.id));
    let segment = stitch.segments[0];
    for block in segment.first..=segment.last {
        for map in pst.targets.iter().flat_map(|target| maps(*target)) {
            let shared = format!("anchors.{anchor}.model.layers.{block}.{map}");
            let own = format!("stitches.{}.0.blocks.{block}.{map}", stitch.id);
            let pair =
                |part: &str| store.get(&format!("{shared}.{part}")).or_else(|| store.get(&format!("{own}.{part}")));
            let mut put = |part: &str, tensor: Option<Tensor>| {
                if let Some(tensor) = tensor {
                    found.insert(format!("base_model.model.model.layers.{block}.{map}.{part}"), tensor);
                }
            };
            put("lora_A.weight", pair("lora_A").map(Tensor::detach));
            put("lora_B.weight", pair("lora_B").map(Tensor::detach));
            put("lora_B.bias", store.get(&format!("{own}.bias")).map(|bias| bias.detach() / pst.scale()));
        }
    }
    found
}

/// `adapter_config.json`.
fn config(law: &Law, stitch: &Stitch, tensors: &Weights) -> Value {
    let pst = &law.spec.pst;
    let names = pst.targets.iter().flat_map(|target| maps(*target)).filter_map(|map| map.rsplit('.').next());
    json!({
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": law.spec.family.anchors[stitch.end_anchor().index()].weights,
        "r": pst.lora_r,
        "lora_alpha": pst.scale() * f64::from(pst.lora_r),
        "lora_dropout": pst.lora_dropout,
        "lora_bias": tensors.iter().any(|(name, _)| name.ends_with("lora_B.bias")),
        "bias": "none",
        "target_modules": names.collect::<Vec<_>>(),
        "inference_mode": true,
    })
}

/// The maps of a block that a target stands for.
fn maps(target: Target) -> &'static [&'static str] {
    match target {
        Target::Q => &["self_attn.q_proj"],
        Target::K => &["self_attn.k_proj"],
        Target::V => &["self_attn.v_proj"],
        Target::O => &["self_attn.o_proj"],
        Target::Fc1 => &["mlp.gate_proj", "mlp.up_proj"],
        Target::Fc2 => &["mlp.down_proj"],
    }
}

fn readme(Origin { run, path, .. }: &Origin<'_>, base: &str) -> String {
    format!(
        "# Adapter of `{path}` of the run {run}\n\nFor `{base}`, which the run did not change.\n\n```python\nfrom peft import \
         PeftModel\nmodel = PeftModel.from_pretrained(base, \".\")  # base: AutoModelForCausalLM.from_pretrained(...)\n```\n"
    )
}
