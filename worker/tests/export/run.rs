//! A run's folder on disk: two random anchors, a few grey images, one checkpoint.

use std::{fs, path::Path};

use esta_engine::spec::JobSpec;
use esta_model::random_vit;
use esta_worker::trainer::{DeviceKind, Job, State};
use serde_json::json;

use crate::fixture;

const IMAGES: usize = 40;

/// Writes the folder and returns the job with the state of its checkpoint.
pub fn write(dir: &Path) -> (Job, State) {
    let path = |name: &str| dir.join(name).display().to_string();
    write_images(dir);
    let mut spec: JobSpec =
        fixture::law(json!({ "data": { "train": { "path": path("images"), "labels": path("labels") } } })).spec;
    for anchor in &mut spec.family.anchors {
        let arch = anchor.arch.clone().expect("given in numbers");
        anchor.weights = path(&format!("{}.safetensors", anchor.name));
        random_vit(&arch, 3, 1).save(anchor.weights.as_ref()).expect("writable");
    }
    fs::write(dir.join("job.json"), serde_json::to_vec(&spec).expect("JSON")).expect("writable");
    spec.output_dir = Some(dir.display().to_string());
    let job = Job::load(spec, DeviceKind::Cpu).expect("all is there");
    let state = State::fresh(&job).expect("fits");
    job.family.checkpoints.stage(&state.summary(&job), |folder| state.write(folder)).expect("writable");
    job.family.checkpoints.publish(state.applied).expect("writable");
    (job, state)
}

/// An IDX pair of 8 x 8 images with labels 0..5.
fn write_images(dir: &Path) {
    let count = u32::try_from(IMAGES).expect("few").to_be_bytes();
    let side = 8_u32.to_be_bytes();
    let mut images = [[0, 0, 8, 3], count, side, side].concat();
    images.extend((0..IMAGES * 64).map(|place| (place * 167 % 251) as u8));
    let mut labels = [[0, 0, 8, 1], count].concat();
    labels.extend((0..IMAGES).map(|image| (image % 5) as u8));
    fs::write(dir.join("images"), images).expect("writable");
    fs::write(dir.join("labels"), labels).expect("writable");
}
