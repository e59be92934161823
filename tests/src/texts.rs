//! A folder with everything a small language-model job needs: documents, questions, a tokenizer, two anchors, a job file.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::TempDir;

use crate::process::Process;

/// What the documents speak of.
const THINGS: [&str; 12] =
    ["open", "read", "write", "close", "seek", "stat", "link", "mount", "fork", "wait", "pipe", "poll"];

/// Questions of the training set.
const QUESTIONS: usize = 48;

/// A place to run small language-model jobs in.
pub struct TextLab {
    dir: TempDir,
}

impl TextLab {
    /// Makes documents, questions that they answer, a tokenizer and two pre-trained anchors of two and three blocks.
    ///
    /// # Errors
    /// When something cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let lab = Self { dir: tempfile::tempdir()? };
        lab.write_texts()?;
        let (corpus, tokenizer) = (lab.file("corpus.jsonl"), lab.file("tokenizer"));
        lab.worker("tokenizer", &["tokenizer", "--texts", &corpus, "--vocab-size", "300", "--out", &tokenizer])?;
        let source = lab.write_source()?;
        lab.worker("pretrain", &["pretrain", "--config", &source.to_string_lossy()])?;
        Ok(lab)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// The path of a file in the folder, as an argument.
    #[must_use]
    pub fn file(&self, name: &str) -> String {
        self.path().join(name).to_string_lossy().into_owned()
    }

    /// Runs the worker with these arguments to its end.
    ///
    /// # Errors
    /// When it fails; its log is in the error.
    pub fn worker(&self, name: &str, args: &[&str]) -> anyhow::Result<Process> {
        let mut process = Process::start(self.path(), name, "esta-worker", args)?;
        let status = process.wait()?;
        anyhow::ensure!(status.success(), "{name} ended with {status}:\n{}", process.log());
        Ok(process)
    }

    /// Writes the job file `<name>.yaml` of a run of `steps` steps; `train` and `text` are further keys of those sections.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_job(&self, name: &str, steps: u64, keys: (&str, &str)) -> anyhow::Result<PathBuf> {
        self.write_job_with(name, steps, keys, "")
    }

    /// The same with further sections, each a line of its own.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_job_with(
        &self,
        name: &str,
        steps: u64,
        (train, text): (&str, &str),
        sections: &str,
    ) -> anyhow::Result<PathBuf> {
        let job = format!(
            "name: {name}\nseed: 11\noutput_dir: {}\nrecipe: best\n\
             family:\n  anchors:\n    - {{name: a, weights: {}}}\n    - {{name: b, weights: {}}}\n  space: {{kind: \
             proportional}}\n\
             budgets: {{params: {{gap: 2000}}}}\nsampling: {{slots: 4}}\n\
             train: {{max_steps: {steps}, batch_size: 8, learning_rate: 3.0e-3, save_steps: 20, logging_steps: 5{train}}}\n\
             data:\n  text: {{template: chat, max_length: 128{text}}}\n  train: {{layout: alpaca, path: {}}}\n  eval: {{layout: alpaca, path: \
             {}, split: {{count: 12}}}}\n\
             eval: {{stitches: all, batch_size: 8, exits: true}}\n{sections}",
            self.file(name),
            self.file("anchors/a"),
            self.file("anchors/b"),
            self.file("train.jsonl"),
            self.file("train.jsonl"),
        );
        let path = self.path().join(format!("{name}.yaml"));
        fs::write(&path, job).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    fn write_source(&self) -> anyhow::Result<PathBuf> {
        let anchor = |name: &str, (width, depth): (u32, u32)| {
            format!(
                "    - {{name: {name}, weights: {}, config: {{vocab_size: 304, hidden_size: {width}, intermediate_size: \
                 {}, num_hidden_layers: {depth}, num_attention_heads: 2, num_key_value_heads: 1, head_dim: 8, \
                 max_position_embeddings: 128}}}}\n",
                self.file(&format!("anchors/{name}")),
                2 * width,
            )
        };
        let job = format!(
            "name: source\nseed: 3\nmode: anchor\nreduce: {{kind: f32}}\nfamily:\n  anchors:\n{}{}\
             train: {{full: true, max_steps: 20, batch_size: 4, learning_rate: 5.0e-3}}\n\
             data:\n  text: {{tokenizer: {}, max_length: 64}}\n  train: {{layout: text, path: {}}}\n",
            anchor("a", (16, 2)),
            anchor("b", (24, 3)),
            self.file("tokenizer"),
            self.file("corpus.jsonl"),
        );
        let path = self.path().join("source.yaml");
        fs::write(&path, job)?;
        Ok(path)
    }

    fn write_texts(&self) -> anyhow::Result<()> {
        let (mut corpus, mut questions) = (String::new(), String::new());
        for number in 0..QUESTIONS {
            let thing = THINGS[number % THINGS.len()];
            let other = THINGS[(number * 5 + 3) % THINGS.len()];
            let page = format!("{thing} works on a file. {thing} is declared in {thing}.h and returns {}.", number % 4);
            writeln!(corpus, "{{\"text\": \"{page} See also {other}.\"}}")?;
            writeln!(
                questions,
                "{{\"instruction\": \"What does {thing} return?\", \"input\": \"{page}\", \"output\": \"{}\"}}",
                number % 4
            )?;
        }
        fs::write(self.path().join("corpus.jsonl"), corpus)?;
        fs::write(self.path().join("train.jsonl"), questions)?;
        Ok(())
    }
}
