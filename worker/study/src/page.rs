//! The page of a study (HANDS): strings in, one HTML page out.
