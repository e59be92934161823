//! Batches as tensors (HANDS).

use esta_data::{Batch, TextBatch};
use esta_model::{Input, Texts};
use tch::{Device, Tensor};

/// What a network takes of a batch, and the labels `[M]` of its images or of the tokens its texts ask for, on the device.
pub fn tensors(batch: &Batch, device: Device) -> (Input, Tensor) {
    let (input, labels) = match batch {
        Batch::Images(batch) => {
            let shape: Vec<i64> = batch.shape.iter().map(|side| *side as i64).collect();
            (Input::Images(Tensor::from_slice(&batch.images).view(&shape[..])), &batch.labels)
        }
        Batch::Texts(TextBatch { tokens, lengths }) => {
            let texts = Texts {
                ids: Tensor::from_slice(&tokens.ids).view([tokens.rows as i64, tokens.width as i64]),
                reads: Tensor::from_slice(&tokens.reads),
                counts: tokens.counts.iter().map(|count| *count as i64).collect(),
                lengths: lengths.iter().map(|length| i64::from(*length)).collect(),
            };
            (Input::Texts(texts), &tokens.labels)
        }
    };
    (input.to_device(device), Tensor::from_slice(labels).to_device(device))
}
