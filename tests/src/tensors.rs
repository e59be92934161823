//! Damage done to a safetensors file by hand: its header is JSON behind its own length, the tensors' bytes follow.

use std::{fs, path::Path};

use anyhow::Context;
use serde_json::Value;

/// Gives a tensor another name.
///
/// # Errors
/// When the file holds no such tensor.
pub fn rename(path: &Path, name: &str, other: &str) -> anyhow::Result<()> {
    edit(path, |header, _| {
        let entry = header.as_object_mut().and_then(|all| all.remove(name)).context("there is no such tensor")?;
        header[other] = entry;
        Ok(())
    })
}

/// Gives a tensor another shape of as many elements.
///
/// # Errors
/// When the file holds no such tensor.
pub fn reshape(path: &Path, name: &str, shape: &[u64]) -> anyhow::Result<()> {
    edit(path, |header, _| {
        header.get_mut(name).context("there is no such tensor")?["shape"] = shape.into();
        Ok(())
    })
}

/// Replaces the first number of a tensor of single precision.
///
/// # Errors
/// When the file holds no such tensor.
pub fn poison(path: &Path, name: &str, value: f32) -> anyhow::Result<()> {
    edit(path, |header, bytes| {
        let start = header[name]["data_offsets"][0].as_u64().context("there is no such tensor")? as usize;
        bytes[start..start + 4].copy_from_slice(&value.to_le_bytes());
        Ok(())
    })
}

fn edit(path: &Path, change: impl FnOnce(&mut Value, &mut [u8]) -> anyhow::Result<()>) -> anyhow::Result<()> {
    let file = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    let (length, rest) = file.split_first_chunk::<8>().context("no header")?;
    let (header, bytes) = rest.split_at_checked(u64::from_le_bytes(*length) as usize).context("no whole header")?;
    let (mut header, mut bytes) = (serde_json::from_slice(header)?, bytes.to_vec());
    change(&mut header, &mut bytes)?;
    let header = header.to_string();
    Ok(fs::write(path, [&(header.len() as u64).to_le_bytes(), header.as_bytes(), &bytes].concat())?)
}
