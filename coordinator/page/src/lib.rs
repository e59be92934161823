//! Pages that need nothing but themselves (HANDS): markup, numbers in words and plots as SVG; strings in, strings out.
//!
//! The report of a run and the page of a study are made of these parts. A page forbids scripts and the network; its
//! colours are custom properties of its style sheet, so that everything is legible in light and dark. What a page says
//! is its caller's business, and so is the file it is written to.

pub mod markup;
pub mod numbers;
pub mod plot;
pub mod table;
