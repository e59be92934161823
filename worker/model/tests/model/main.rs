//! The model's tests by theme. They run on tiny families and need neither network nor GPU.

mod determinism;
mod fixture;
mod llama;
mod llama_parity;
mod merge;
mod optimizer;
mod parity;
mod reduction;
mod reference;
mod refine;
mod score;
mod starts;
mod teacher;
mod windows;
