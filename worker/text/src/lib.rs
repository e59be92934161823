//! Texts for workers (HANDS): files -> examples -> prompts and answers -> tokens, free of libtorch.
