//! What the numbers of a message come to (LAW). It tells damage on the way, not intent; digests would take as long as all else
//! that is done for a rank's plan.

/// Few bits in which numbers that differ in some bits differ, too.
pub(super) fn come_to(numbers: impl Iterator<Item = u64>) -> u32 {
    let sum = numbers.fold(0, |sum: u64, word| {
        // Multiplication carries upwards alone: what changed high up has to come down again.
        let sum = (sum ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
        sum ^ sum >> 32
    });
    sum as u32
}

/// Bytes as numbers.
pub(super) fn words(bytes: &[u8]) -> impl Iterator<Item = u64> {
    bytes.chunks(8).map(|chunk| chunk.iter().fold(0, |word, byte| word << 8 | u64::from(*byte)))
}
