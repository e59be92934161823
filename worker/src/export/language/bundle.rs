//! All language models of a run as one folder (HANDS): anchors, low-rank pairs and stitching layers once, every stitch's own
//! biases.

use std::{collections::BTreeMap, path::Path};

use esta_engine::{law::Law, table::Row};
use esta_model::Weights;
use esta_proto::StitchId;
use serde_json::{Value, json};

use super::{
    super::{ExportError, bundle::stitches, folder},
    Vocabulary, dtype_name, dtype_of, merge, template,
};

/// Writes the run's tensors, each once by the run's own names, with what its modelling file needs to know.
pub fn write(
    law: &Law,
    tensors: &Weights,
    rows: &BTreeMap<StitchId, Row>,
    vocabulary: &Vocabulary,
    target: &Path,
) -> Result<(), ExportError> {
    let mut config = config(law, rows);
    merge(&mut config, Value::Object(vocabulary.ids()));
    merge(&mut config, json!({ "torch_dtype": dtype_name(dtype_of(tensors)) }));
    folder::replace(target, Some(folder::LANGUAGE), |files| {
        files.tensors(tensors)?;
        files.json("config.json", &config)?;
        vocabulary.write(files)?;
        files.json(folder::ADAPTED_MARK, &json!({ "run": law.spec.name, "template": template(law) }))?;
        files.text("README.md", &readme(law))
    })
}

/// `config.json`.
fn config(law: &Law, rows: &BTreeMap<StitchId, Row>) -> Value {
    let names = law.spec.family.anchors.iter().map(|anchor| &anchor.name);
    let archs = law.catalog.anchors.iter().filter_map(|arch| arch.as_llama());
    let anchors: Vec<Value> = names
        .zip(archs)
        .map(|(name, arch)| json!({ "name": name, "qk_norm": arch.has_qk_norm(), "arch": arch }))
        .collect();
    json!({
        "format": "esta-stitched-llm",
        "version": 1,
        "kind": "bundle",
        "run": law.spec.name,
        "rule": law.spec.palette.rule,
        "lora_scale": law.spec.pst.scale(),
        "anchors": anchors,
        "stitches": stitches(law, rows),
    })
}

fn readme(law: &Law) -> String {
    let (run, count) = (&law.spec.name, law.catalog.stitches().count());
    format!(
        "# All stitches of the run {run}\n\n{count} language models over one set of weights; `config.json` lists them with \
         their parameters.\n\n```python\nfrom modeling_stitched import load_bundle  # the file in this folder\nfrom \
         transformers import AutoTokenizer\nmodel, tokenizer = load_bundle(\".\"), \
         AutoTokenizer.from_pretrained(\".\")\nmodel.set_budget(1e9)  # parameters at most; or \
         model.set_stitch(id)\nmodel.generate(**tokenizer(\"...\", return_tensors=\"pt\"))\n```\n"
    )
}
