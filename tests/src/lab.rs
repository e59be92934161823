//! A folder with everything a small job needs: images, labels, two anchors, a job file.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
};

use anyhow::Context;
use tempfile::TempDir;

use crate::process::Process;

/// Images in the training set.
pub const SAMPLES: usize = 96;
const SIDE: usize = 8;
const CLASSES: usize = 3;
/// Bytes before the first pixel of an IDX file of images.
const IDX_IMAGES_HEADER: usize = 16;

/// A place to run small jobs in.
pub struct Lab {
    dir: TempDir,
}

impl Lab {
    /// Makes images, labels and two pre-trained anchors of three blocks.
    ///
    /// # Errors
    /// When the anchors cannot be made.
    pub fn new() -> anyhow::Result<Self> {
        let lab = Self::without_anchors()?;
        let source = lab.write_job("source", "mode: anchor\nreduce: {kind: f32}\n", 30)?;
        let mut pretrain = Process::start(
            lab.path(),
            "pretrain",
            "esta-worker",
            &["pretrain", "--config", &source.to_string_lossy()],
        )?;
        let status = pretrain.wait()?;
        anyhow::ensure!(status.success(), "pre-training ended with {status}:\n{}", pretrain.log());
        Ok(lab)
    }

    /// Makes images and labels only: enough for jobs that never reach a worker.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn without_anchors() -> anyhow::Result<Self> {
        let lab = Self { dir: tempfile::tempdir()? };
        lab.write_images(SAMPLES)?;
        Ok(lab)
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Writes the job file `<name>.yaml` of a run of `steps` steps; `more` are further top-level keys.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write_job(&self, name: &str, more: &str, steps: u64) -> anyhow::Result<PathBuf> {
        let root = self.path().display();
        let mut text = format!("name: {name}\nseed: 11\noutput_dir: {root}/{name}\nrecipe: paper\n{more}");
        let anchor = |name: &str, width: usize| {
            format!(
                "    - {{name: {name}, weights: {root}/anchors/{name}, arch: {{image_size: {SIDE}, patch_size: 4, \
                 in_chans: 1, embed_dim: {width}, depth: 3, num_heads: 2}}}}\n"
            )
        };
        let data = self.data_of();
        write!(
            text,
            "family:\n  anchors:\n{}{}\
             budgets: {{gap: 3000}}\n\
             train: {{max_steps: {steps}, batch_size: 16, learning_rate: 3.0e-3, save_steps: 20, logging_steps: 5}}\n\
             data:\n  num_classes: {CLASSES}\n  train: {{{data}}}\n  eval: {{{data}}}\n\
             eval: {{stitches: all}}\n",
            anchor("a", 8),
            anchor("b", 16),
        )?;
        let path = self.path().join(format!("{name}.yaml"));
        fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
        Ok(path)
    }

    /// Replaces a piece of a job file, everywhere it occurs.
    ///
    /// # Errors
    /// When it does not occur.
    pub fn change(&self, job: &Path, from: &str, to: &str) -> anyhow::Result<()> {
        let text = fs::read_to_string(job)?;
        anyhow::ensure!(text.contains(from), "{} has no {from:?}", job.display());
        Ok(fs::write(job, text.replace(from, to))?)
    }

    /// Writes the images as PNG files, one folder per class, and answers the root; a job takes them with
    /// [`Lab::data_of`] replaced.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn write_photos(&self) -> anyhow::Result<PathBuf> {
        let root = self.path().join("photos");
        (0..CLASSES).try_for_each(|class| fs::create_dir_all(root.join(class.to_string())))?;
        let idx = fs::read(self.path().join("images.idx"))?;
        for (sample, pixels) in idx[IDX_IMAGES_HEADER..].chunks(SIDE * SIDE).enumerate() {
            let path = root.join(format!("{}/{sample:03}.png", sample % CLASSES));
            image::save_buffer(&path, pixels, SIDE as u32, SIDE as u32, image::ExtendedColorType::L8)?;
        }
        Ok(root)
    }

    /// The keys that name the images and labels in every job file of this lab.
    #[must_use]
    pub fn data_of(&self) -> String {
        let root = self.path().display();
        format!("layout: idx, path: {root}/images.idx, labels: {root}/labels.idx")
    }

    /// Writes this many images and labels, instead of those that are there: three classes of noisy bars, horizontal,
    /// vertical, both.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write_images(&self, samples: usize) -> anyhow::Result<()> {
        let mut noise = 12345_u32;
        let mut images = idx_header(0x803, &[samples, SIDE, SIDE]);
        let mut labels = idx_header(0x801, &[samples]);
        for sample in 0..samples {
            let class = sample % CLASSES;
            labels.push(class as u8);
            for (y, x) in (0..SIDE).flat_map(|y| (0..SIDE).map(move |x| (y, x))) {
                noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                let (row, column) = (y % 4 < 2 && class != 1, x % 4 < 2 && class != 0);
                images.push(if row || column { 150 } else { 20 } + (noise >> 24) as u8 / 3);
            }
        }
        fs::write(self.path().join("images.idx"), images)?;
        fs::write(self.path().join("labels.idx"), labels)?;
        Ok(())
    }
}

fn idx_header(magic: u32, sizes: &[usize]) -> Vec<u8> {
    let words = std::iter::once(magic).chain(sizes.iter().map(|size| *size as u32));
    words.flat_map(u32::to_be_bytes).collect()
}
