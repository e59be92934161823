//! A small disk of its own below a folder, which can be filled to the last byte. Needs root, or the capability CAP_SYS_ADMIN.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, ensure};

/// What takes the room.
const FILLER: &str = "filler";
/// As memory is given out: what is smaller than a page takes one.
const PAGE: usize = 4096;

/// A disk that lies in memory; it is gone, with all that is on it, when it is dropped.
pub struct Disk {
    folder: PathBuf,
}

impl Disk {
    /// Puts a disk of so many bytes in place of a folder, which is made.
    ///
    /// # Errors
    /// When `mount` refuses, as it does without the right to.
    pub fn mount(folder: &Path, bytes: u64) -> anyhow::Result<Self> {
        fs::create_dir_all(folder)?;
        let output = Command::new("mount")
            .args(["-t", "tmpfs", "-o", &format!("size={bytes}"), "tmpfs"])
            .arg(folder)
            .output()
            .context("starting mount")?;
        let said = String::from_utf8_lossy(&output.stderr);
        ensure!(output.status.success(), "a disk at {} (it needs root): {}", folder.display(), said.trim());
        Ok(Self { folder: folder.to_owned() })
    }

    /// Takes all the room there is.
    ///
    /// # Errors
    /// When it ends otherwise than with a full disk.
    pub fn fill(&self) -> anyhow::Result<()> {
        let mut filler = File::options().create(true).append(true).open(self.folder.join(FILLER))?;
        loop {
            match filler.write_all(&[0xff; PAGE]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => return Ok(()),
                Err(error) => return Err(error).context("filling a disk"),
            }
        }
    }

    /// Gives it back.
    ///
    /// # Errors
    /// When it was not taken.
    pub fn free(&self) -> anyhow::Result<()> {
        Ok(fs::remove_file(self.folder.join(FILLER))?)
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Whoever still has a file open there keeps it until it is closed.
        drop(Command::new("umount").arg("--lazy").arg(&self.folder).output());
    }
}
