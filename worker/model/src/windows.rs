//! Frozen blocks that take turns in memory (TENSOR): every anchor has two windows, and a network's handles to the weights of
//! its blocks are views of them, even blocks in one and odd ones in the other. What is in a window is seen to before a block
//! runs: somebody brings the block, or it is read from its files.
//!
//! A window is one row of bytes, so that a block moves as one piece whatever types its tensors have.

use std::collections::BTreeMap;
use std::ops::Range;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use esta_engine::arch::LlamaArch;
use esta_engine::groups::block_tensors;
use esta_engine::shard::BlockId;
use esta_engine::spec::Precision;
use esta_proto::AnchorId;
use tch::{Device, Kind, Tensor};

use crate::hub::{Census, Files, HubError, kind_of};
use crate::linear::Phase;
use crate::network::{Block, Past};
use crate::weights::{Found, MappedFile, Weights, WeightsError};

/// Windows of an anchor: the block in use and the next one.
const WINDOWS: u32 = esta_engine::memory::WINDOWS as u32;
/// Bytes at whose multiples tensors begin, as libtorch's own allocations do: some products round by their operands' alignment.
const ALIGNMENT: usize = 64;

/// The blocks of a family that take turns in memory.
#[derive(Debug, Default)]
pub struct Windows {
    /// One lock for all: a trainer's thread is alone with it.
    family: Mutex<Vec<Anchor>>,
}

/// One anchor's blocks.
#[derive(Debug)]
struct Anchor {
    /// The tensors of any of its blocks.
    parts: Vec<Part>,
    /// Bytes of a block.
    bytes: usize,
    files: Vec<MappedFile>,
    /// By block and part.
    found: Vec<Vec<(usize, Found)>>,
    windows: Vec<Window>,
    /// Blocks that stay in memory beside the windows.
    kept: BTreeMap<u32, Tensor>,
}

/// A tensor of a block in the block's row of bytes.
#[derive(Debug, Clone)]
struct Part {
    name: String,
    shape: Vec<i64>,
    kind: Kind,
    place: Range<usize>,
}

/// Where one block lies at a time.
#[derive(Debug)]
struct Window {
    /// u8 `[bytes]`
    row: Tensor,
    /// By part.
    views: Vec<Tensor>,
    holds: Option<u32>,
}

/// A block that is to move into its window from somewhere else.
#[derive(Debug)]
pub struct Opening {
    /// u8 `[bytes]`: what moves, of the same length on every rank.
    pub row: Tensor,
    /// Which block.
    pub block: BlockId,
}

impl Windows {
    /// The windows of no anchor.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Opens the Hugging Face folder of the next anchor of the family, and checks names, shapes and types of everything in it.
    /// Answers what its tensors' names begin with in the family, and its frozen weights: those in front of and behind the blocks,
    /// and for blocks views of windows that hold nothing.
    ///
    /// # Errors
    /// As [`crate::read_llama`], but that values of blocks are looked at by [`Self::keep`].
    pub fn open(
        &mut self,
        folder: &Path,
        arch: &LlamaArch,
        precision: Precision,
        device: Device,
    ) -> Result<(String, Weights), HubError> {
        let (anchor, weights) = Anchor::open(folder, arch, precision, device)?;
        let family = self.family.get_mut().unwrap_or_else(PoisonError::into_inner);
        family.push(anchor);
        Ok((format!("anchors.{}.", family.len() - 1), weights))
    }

    /// Keeps these blocks in memory beside the windows, as many of them in their order as `room` bytes hold, and no others.
    /// Answers how many it keeps. Every one of them is looked through, kept or not.
    ///
    /// # Errors
    /// [`WeightsError::NotFinite`].
    pub fn keep(&self, blocks: &[BlockId], mut room: u64) -> Result<usize, WeightsError> {
        let mut family = self.family();
        for (number, anchor) in (0..).map(AnchorId).zip(family.iter_mut()) {
            anchor.kept.retain(|block, _| blocks.contains(&BlockId { anchor: number, block: *block }));
        }
        let mut count = 0;
        for &BlockId { anchor, block } in blocks {
            let anchor = &mut family[anchor.index()];
            let fits = anchor.bytes as u64 <= room;
            if !anchor.kept.contains_key(&block) {
                let row = anchor.looked_through(block)?;
                if fits {
                    anchor.kept.insert(block, row);
                }
            } else if !fits {
                anchor.kept.remove(&block);
            }
            if fits {
                room -= anchor.bytes as u64;
                count += 1;
            }
        }
        Ok(count)
    }

    /// Empties every window.
    pub fn clear(&self) {
        self.family().iter_mut().flat_map(|anchor| &mut anchor.windows).for_each(|window| window.holds = None);
    }

    /// The window of a block as it is: u8 `[bytes]`.
    pub fn row(&self, BlockId { anchor, block }: BlockId) -> Tensor {
        self.family()[anchor.index()].window(block).row.shallow_clone()
    }

    /// Whether a block is in its window.
    #[must_use]
    pub fn holds(&self, BlockId { anchor, block }: BlockId) -> bool {
        self.family()[anchor.index()].window(block).holds == Some(block)
    }

    /// Whether two blocks, one after the other, would have the same window.
    #[must_use]
    pub fn collide(one: BlockId, other: BlockId) -> bool {
        one.anchor == other.anchor && one.block % WINDOWS == other.block % WINDOWS
    }

    /// The window of a block that is to move there; until it has arrived the window holds nothing.
    #[must_use]
    pub fn open_for(&self, block: BlockId) -> Opening {
        let mut family = self.family();
        let window = family[block.anchor.index()].window_mut(block.block);
        window.holds = None;
        Opening { row: window.row.shallow_clone(), block }
    }

    /// The block is there.
    pub fn arrived(&self, Opening { block, .. }: Opening) {
        self.family()[block.anchor.index()].window_mut(block.block).holds = Some(block.block);
    }

    /// Fills the window of a block from what is kept, or from its files. Nothing moves where it is there already.
    pub fn bring(&self, BlockId { anchor, block }: BlockId) {
        self.family()[anchor.index()].bring(block);
    }

    /// Every block's tensors on the processor, under `anchors.{a}.`, whatever windows hold.
    #[must_use]
    pub(crate) fn all_blocks(&self) -> Weights {
        let mut weights = Weights::new("blocks");
        for (number, anchor) in self.family().iter().enumerate() {
            for block in 0..anchor.found.len() as u32 {
                for (part, (file, found)) in anchor.parts.iter().zip(&anchor.found[block as usize]) {
                    let tensor = anchor.files[*file].read(found).to_kind(part.kind);
                    weights.insert(format!("anchors.{number}.{}", part.name_in(block)), tensor);
                }
            }
        }
        weights
    }

    fn family(&self) -> MutexGuard<'_, Vec<Anchor>> {
        self.family.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Anchor {
    fn open(
        folder: &Path,
        arch: &LlamaArch,
        precision: Precision,
        device: Device,
    ) -> Result<(Self, Weights), HubError> {
        let parts = parts(arch, precision);
        let bytes = parts.last().map_or(0, |part| part.place.end.next_multiple_of(ALIGNMENT));
        let windows: Vec<Window> = (0..WINDOWS).map(|_| Window::empty(&parts, bytes, device)).collect();
        let files = Files::of(folder)?.open()?;
        let mut census = Census::of(arch);
        let mut at_rest = Weights::new(folder.display().to_string());
        let mut places: BTreeMap<String, (usize, Found)> = BTreeMap::new();
        let of_a_block = |name: &str| name.starts_with("model.layers.");
        for (number, file) in files.iter().enumerate() {
            for (name, view) in file.tensors()?.iter() {
                let Some(shape) = census.take(file, name)? else { continue };
                if of_a_block(name) {
                    places.insert(name.to_owned(), (number, file.find(name, &view, &shape)?));
                } else {
                    at_rest.insert(name, file.tensor(name, &view, &shape, (kind_of(&shape, precision), device))?);
                }
            }
        }
        census.finish(folder)?;
        let mut found = Vec::new();
        for block in 0..arch.num_hidden_layers {
            for (part, view) in parts.iter().zip(&windows[(block % WINDOWS) as usize].views) {
                at_rest.insert(part.name_in(block), view.shallow_clone());
            }
            let place = |part: &Part| places.remove(&part.name_in(block)).expect("nothing is missing");
            found.push(parts.iter().map(place).collect());
        }
        Ok((Self { parts, bytes, files, found, windows, kept: BTreeMap::new() }, at_rest))
    }

    fn window(&self, block: u32) -> &Window {
        &self.windows[(block % WINDOWS) as usize]
    }

    fn window_mut(&mut self, block: u32) -> &mut Window {
        &mut self.windows[(block % WINDOWS) as usize]
    }

    fn bring(&mut self, block: u32) {
        if self.window(block).holds == Some(block) {
            return;
        }
        let window = &self.windows[(block % WINDOWS) as usize];
        match self.kept.get(&block) {
            Some(row) => window.row.shallow_clone().copy_(row),
            None => self.read(block, &window.views),
        }
        self.window_mut(block).holds = Some(block);
    }

    /// A block's own row of bytes.
    fn looked_through(&self, block: u32) -> Result<Tensor, WeightsError> {
        let Window { row, views, .. } = Window::empty(&self.parts, self.bytes, self.windows[0].row.device());
        self.read(block, &views);
        for ((part, view), (file, _)) in self.parts.iter().zip(&views).zip(&self.found[block as usize]) {
            self.files[*file].check_finite(&part.name_in(block), view)?;
        }
        Ok(row)
    }

    /// Reads a block's tensors from their files.
    fn read(&self, block: u32, views: &[Tensor]) {
        for (view, (file, found)) in views.iter().zip(&self.found[block as usize]) {
            view.shallow_clone().copy_(&self.files[*file].read(found));
        }
    }
}

impl Part {
    /// Its name in the checkpoint.
    fn name_in(&self, block: u32) -> String {
        format!("model.layers.{block}.{}", self.name)
    }
}

/// The tensors of a block, one behind the other.
fn parts(arch: &LlamaArch, precision: Precision) -> Vec<Part> {
    let mut start: usize = 0;
    let part = |param: esta_engine::groups::Param| {
        let shape: Vec<i64> = param.shape.iter().map(|&side| crate::params::signed(side)).collect();
        let kind = kind_of(&shape, precision);
        let bytes = param.numel() as usize * kind.elt_size_in_bytes();
        let place = start.next_multiple_of(ALIGNMENT)..start.next_multiple_of(ALIGNMENT) + bytes;
        start = place.end;
        Part { name: param.name, shape, kind, place }
    };
    block_tensors(&arch.clone().into()).into_iter().map(part).collect()
}

impl Window {
    fn empty(parts: &[Part], bytes: usize, device: Device) -> Self {
        let row = Tensor::zeros([bytes as i64], (Kind::Uint8, device));
        let view = |Part { shape, kind, place, .. }: &Part| {
            row.narrow(0, place.start as i64, place.len() as i64).view_dtype(*kind).view(shape.as_slice())
        };
        let views = parts.iter().map(view).collect();
        Self { row, views, holds: None }
    }
}

/// A block that is seen to before it runs.
pub(crate) struct Windowed {
    pub block: Box<dyn Block>,
    pub id: BlockId,
    pub windows: Arc<Windows>,
}

impl Windowed {
    fn there(&self) -> &dyn Block {
        self.windows.bring(self.id);
        &*self.block
    }
}

impl Block for Windowed {
    fn forward(&self, x: &Tensor, phase: Phase) -> Tensor {
        self.there().forward(x, phase)
    }

    fn forward_last(&self, x: &Tensor, phase: Phase) -> Tensor {
        self.there().forward_last(x, phase)
    }

    fn forward_after(&self, past: &mut Past, x: &Tensor) -> Tensor {
        self.there().forward_after(past, x)
    }

    /// What carries adaptation is the merged block's own; the rest goes on taking turns.
    fn merged(&self) -> Box<dyn Block> {
        Box::new(Self { block: self.there().merged(), id: self.id, windows: self.windows.clone() })
    }

    /// Copies: the next block will have the window.
    fn export(&self, prefix: &str, weights: &mut Weights) {
        let mut views = Weights::new("a window");
        self.there().export(prefix, &mut views);
        for (name, tensor) in views.iter() {
            let copied = if tensor.device() == Device::Cpu { tensor.copy() } else { tensor.to_device(Device::Cpu) };
            weights.insert(name, copied);
        }
    }

    fn positions(&self) -> Option<i64> {
        self.block.positions()
    }
}
