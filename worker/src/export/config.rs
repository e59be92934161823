//! `config.json` of an export (HANDS): what its modelling file and a reader need to know.

use esta_engine::{
    arch::VitArch,
    catalog::Stitch,
    spec::{JobSpec, PaletteRule, Resize},
    statistics::ChannelStatistics,
};
use esta_model::MergedSegment;
use esta_proto::{BudgetId, StitchId};
use serde::Serialize;

use super::{Palettes, timm::TimmConfig};

/// What every export says, whatever it holds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Header {
    /// Names this form of folder.
    pub format: &'static str,
    /// Counted up when older modelling files cannot read it.
    pub version: u32,
    /// What it holds.
    pub kind: Kind,
    /// Name of the run.
    pub run: String,
    /// Labels are 0..classes.
    pub num_classes: u32,
    /// Channels, height and width of an image.
    pub input_size: [u32; 3],
    /// From an image to the input.
    pub preprocess: Preprocess,
}

/// What a folder holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// One merged stitch.
    Stitch,
    /// All stitches of a run.
    Bundle,
}

/// The steps of the run's evaluation: resize, scale to 0..1, then (v - mean) / std per channel.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Preprocess {
    /// How the input size is reached.
    pub resize: Resize,
    /// Always antialiased bicubic.
    pub interpolation: &'static str,
    /// Per channel.
    pub mean: Vec<f32>,
    /// Per channel.
    pub std: Vec<f32>,
}

/// One merged stitch.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct StitchConfig {
    #[serde(flatten)]
    header: Header,
    /// Number in the run's catalog.
    pub stitch: StitchId,
    /// MACs of one image.
    macs: u64,
    params: u64,
    /// The path, in order of execution; a stitching layer leads from each to the next.
    segments: Vec<SegmentConfig>,
    /// Who chose it, for which budget; empty where it was exported by number and nobody did.
    chosen: Vec<ChosenBy>,
    /// A lone anchor says the same in timm's words.
    #[serde(flatten)]
    timm: Option<TimmConfig>,
}

/// Consecutive blocks of one anchor, ends included.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct SegmentConfig {
    anchor: String,
    first: u32,
    last: u32,
    arch: VitArch,
}

/// A rule's choice.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ChosenBy {
    rule: PaletteRule,
    budget: BudgetId,
    /// What the rule compared; higher is better.
    value: f64,
}

impl Header {
    /// The header for networks of this input.
    pub fn new(spec: &JobSpec, kind: Kind, front: &VitArch) -> Self {
        let (channels, side) = (front.in_chans, front.image_size);
        let ChannelStatistics { mean, std } = spec.data.normalize.statistics(channels as usize);
        Self {
            format: "esta-stitched-vit",
            version: 1,
            kind,
            run: spec.name.clone(),
            num_classes: spec.data.num_classes,
            input_size: [channels, side, side],
            preprocess: Preprocess { resize: spec.data.resize, interpolation: "bicubic", mean, std },
        }
    }
}

impl StitchConfig {
    /// What a standalone folder says of its stitch.
    pub fn new(spec: &JobSpec, stitch: &Stitch, segments: &[MergedSegment], palettes: &Palettes) -> Self {
        let vit = |segment: &MergedSegment| segment.arch.as_vit().cloned().expect("a vision transformer's segments");
        let header = Header::new(spec, Kind::Stitch, &vit(&segments[0]));
        let anchor = |segment: &MergedSegment| &spec.family.anchors[segment.anchor.index()];
        let timm = match segments {
            [alone] => Some(TimmConfig::new(&header, &vit(alone), anchor(alone).preset.as_deref())),
            _ => None,
        };
        let segments = segments.iter().map(|segment| SegmentConfig {
            anchor: anchor(segment).name.clone(),
            first: segment.first,
            last: segment.last,
            arch: vit(segment),
        });
        let segments = segments.collect();
        let (macs, params) = (stitch.macs, stitch.params);
        Self { header, stitch: stitch.id, macs, params, segments, chosen: chosen_by(stitch.id, palettes), timm }
    }
}

/// Who chose a stitch, and for which budget.
pub fn chosen_by(stitch: StitchId, palettes: &Palettes) -> Vec<ChosenBy> {
    let all = palettes.iter().flat_map(|(rule, choices)| choices.iter().map(move |choice| (*rule, choice)));
    let mine = all.filter(|(_, choice)| choice.stitch == stitch);
    mine.map(|(rule, choice)| ChosenBy { rule, budget: choice.budget, value: choice.value }).collect()
}

/// How to use a standalone folder; `path` is the stitch's, in words.
pub fn stitch_readme(config: &StitchConfig, path: &str) -> String {
    let (stitch, macs, params) = (config.stitch, config.macs, config.params);
    let run = &config.header.run;
    let timm = match &config.timm {
        None => "",
        Some(_) => {
            "\nIt is an ordinary timm checkpoint too: `timm.create_model(\"local-dir:PATH\", pretrained=True)`.\n"
        }
    };
    format!(
        "# Stitch {stitch} of the run {run}\n\n\
         `{path}`: {macs} MACs per image, {params} parameters. PyTorch is all it needs:\n\n\
         ```python\n\
         from modeling_stitched_vit import load  # the file in this folder\n\
         model = load(\".\")\n\
         logits = model(model.preprocess(images))  # uint8 images [B, C, H, W]\n\
         ```\n{timm}"
    )
}
