//! The model's tests by theme. They run on tiny families and need neither network nor GPU.

mod fixture;
mod parity;
